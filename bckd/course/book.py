"""The course as static pages: every notebook run anew and written as HTML.

    python -m bckd.course.book notebooks runs/book

Explorers come as pages of their own arithmetic (`BCKD_BOOK`), so that they work without a
kernel; links between notebooks lead to the pages, and `index.html` is the course's README.
The pages ask no server for anything: formulas are MathML, which browsers draw themselves.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.system.files import write_text

with extra("notebooks", "the book"):
    import nbformat
    from latex2mathml.converter import convert
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from nbformat import NotebookNode
    from nbformat.v4 import new_markdown_cell, new_notebook

Links = Sequence[tuple[str, str]]  # addresses and their texts

CELL_SECONDS = 300  # a cell that takes longer is stuck
# nbconvert's page without the scripts that it loads from elsewhere; with a way back, and room
# for figures and formulas on a phone, where they scroll in place of shrinking.
TEMPLATE = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
nav { display: flex; gap: 2em; padding: 0.5em 0; font-family: var(--jp-content-font-family); }
nav a { color: var(--jp-content-link-color); }
.jp-RenderedHTMLCommon math[display="block"] { display: block math; overflow-x: auto; }
@media (max-width: 600px) {
  body.jp-Notebook { padding: 8px; }
  .jp-RenderedImage { overflow-x: auto; }
  .jp-RenderedImage img { max-width: 680px; }
  .jp-InputArea-editor pre, .jp-OutputArea-output pre { font-size: 11px; }
  .jp-RenderedText { overflow-x: auto; }
  .jp-RenderedText pre { white-space: pre; }
  .jp-RenderedHTMLCommon code { overflow-wrap: break-word; }
}
</style>
{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<nav>
{%- for address, title in resources.links %} <a href="{{ address }}">{{ title }}</a>{% endfor -%}
</nav>
{%- endblock -%}
"""


def write_book(notebooks: Path, out: Path) -> list[Path]:
    """Run the notebooks of a folder, solutions included, and write a page for each.

    Returns:
        The pages, in the order of the notebooks' names; `index.html`, the page of the folder's
        README.md, comes first where there is one.

    Raises:
        InputError: the folder holds no notebook.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    paths = sorted(notebooks.glob("*.ipynb")) + sorted((notebooks / "solutions").glob("*.ipynb"))
    if not paths:
        raise InputError(f"{notebooks} holds no notebook; expected the course's folder")
    pages = []
    if (notebooks / "README.md").is_file():
        pages.append(out / "index.html")
        write_text(pages[0], index_page(notebooks / "README.md"))
    for path in paths:
        print(path.relative_to(notebooks))
        pages.append(out / path.relative_to(notebooks).with_suffix(".html"))
        write_text(pages[-1], page_of(path, _links(path, paths)))
    return pages


def index_page(readme: Path) -> str:
    """The HTML page of the course's table of contents."""
    text = readme.read_text(encoding="utf-8")
    title = text.splitlines()[0].lstrip("# ")
    return _html(new_notebook(cells=[new_markdown_cell(text)]), title, (), readme.parent)


def _links(path: Path, paths: list[Path]) -> Links:
    """The course, and the pages before and after in the same folder."""
    beside = [other for other in paths if other.parent == path.parent]
    place = beside.index(path)
    up = "index.html" if path.parent == paths[0].parent else "../index.html"
    links = [(up, "The course")]
    if place > 0:
        links.append((f"{beside[place - 1].stem}.html", "Previous"))
    if place + 1 < len(beside):
        links.append((f"{beside[place + 1].stem}.html", "Next"))
    return links


def page_of(path: Path, links: Links = ()) -> str:
    """The HTML page of one notebook, run in its own folder.

    Args:
        links: address and text of each link at its top.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "BCKD_BOOK": "1"}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=environment)
    notebook.metadata.pop("widgets", None)  # the data of live explorers, a second time
    first = notebook.cells[0].source.splitlines() if notebook.cells else []
    return _html(notebook, first[0].lstrip("# ") if first else path.stem, links, path.parent)


def _html(notebook: NotebookNode, title: str, links: Links, folder: Path) -> str:
    """A page that holds the pictures of its text, which lie in the notebook's folder or below."""
    notebook.metadata.title = title
    exporter = HTMLExporter(raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", partial(_markdown_to_html, folder))
    html, _ = exporter.from_notebook_node(notebook, {"links": links})
    return re.sub(r'(href="[^":]*)\.ipynb"', r'\1.html"', html)


def _markdown_to_html(folder: Path, text: str) -> str:
    renderer = _Renderer(escape=False, embed_images=True, path=str(folder))
    return MarkdownWithMath(renderer=renderer).render(text)


class _Renderer(IPythonRenderer):
    """nbconvert's, but for formulas."""

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")


if __name__ == "__main__":
    write_book(Path(sys.argv[1]), Path(sys.argv[2]))

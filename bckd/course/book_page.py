"""One page of the book: a notebook's cells, with contents and ways to the other pages."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bckd.course.book_markdown import PageText
from bckd.course.book_pictures import describe_pictures
from bckd.course.book_sections import contents_list, sections_of
from bckd.system.extras import extra

with extra("notebooks", "the book"):
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CONTENTS = "<!-- contents -->"
STYLE_SHEET = "style.css"  # of all pages, beside them: a quarter of a megabyte
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
STYLE_ELEMENT = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)

# nbconvert's page without the scripts that it loads from elsewhere. The contents are open where
# there is room beside the text, else folded.
TEMPLATE = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block body_header -%}
<body class="jp-Notebook book" data-jp-theme-light="true" data-jp-theme-name="JupyterLab Light">
{{ self.ways() }}
<aside class="book-contents"><details><summary>On this page</summary><!-- contents --></details>
<script>
document.querySelector(".book-contents details").open = matchMedia("(min-width: 1100px)").matches;
</script></aside>
<main>
{%- endblock -%}
{%- block body_footer -%}
</main>
{{ self.ways() }}
</body>
{%- endblock -%}
{%- block ways -%}
{%- if resources.ways -%}
<nav class="book-ways" aria-label="The book">
{%- for way in resources.ways %}
<a href="{{ way.address }}"{% if way.rel %} rel="{{ way.rel }}"{% endif %}>{{ way.text | e }}</a>
{%- endfor %}
<form action="{{ resources.root }}search.html" role="search">
<input type="search" name="words" placeholder="Search the book" aria-label="Search the book">
</form>
</nav>
{%- endif -%}
{%- endblock -%}
{%- block codecell -%}
{%- if "setup" in cell.metadata.get("tags", []) -%}
<details class="book-setup"><summary>Set-up</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
{%- block data_png -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data["image/png"] }}" alt="{{ output.metadata.alt | e }}">
</div>
{%- endblock -%}
{%- block in_prompt -%}
<div class="jp-InputPrompt jp-InputArea-prompt">
<a class="book-cell-link" href="#cell-id={{ cell.id }}" title="Link to this cell">In&nbsp;[
{{- cell.execution_count or "&nbsp;" }}]:</a>
</div>
{%- endblock -%}
"""


@dataclass(frozen=True)
class Way:
    """A link at the top and at the bottom of a page.

    Attributes:
        rel: "prev" or "next", as browsers understand it.
    """

    address: str
    text: str
    rel: str = ""


def page_of(
    notebook: NotebookNode,
    title: str,
    folder: Path,
    *,
    page: str = "index.html",
    pages: Collection[str] = (),
    ways: Sequence[Way] = (),
) -> str:
    """A notebook's HTML page, which asks no server for anything; `style_sheet` is its style.

    Args:
        title: of the browser's tab.
        folder: where the pictures of its texts lie, or below.
        page: its address in the book.
        pages: the addresses that its links may lead to.
        ways: to other pages, none for a page that stands alone.
    """
    notebook.metadata.title = title
    describe_pictures(notebook)
    exporter = HTMLExporter(raw_template=TEMPLATE)
    exporter.register_filter("markdown2html", PageText(folder, page, pages).html)
    root = "../" * page.count("/")
    html, _ = exporter.from_notebook_node(notebook, {"ways": list(ways), "root": root})
    html = html.replace(CONTENTS, contents_list(sections_of(body_of(html))), 1)
    head, end, body = html.partition("</head>")
    return f"{STYLE_ELEMENT.sub('', head)}{link_to_style(root)}{end}{body}"


def style_sheet() -> str:
    """The style of all pages: nbconvert's and the book's own."""
    html, _ = HTMLExporter(raw_template=TEMPLATE).from_notebook_node(new_notebook())
    return "\n".join([*STYLE_ELEMENT.findall(html.partition("</head>")[0]), STYLE])


def link_to_style(root: str = "") -> str:
    """The element by which a page takes its style.

    Args:
        root: the book's folder as the page sees it.
    """
    return f'<link rel="stylesheet" href="{root}{STYLE_SHEET}">'


def body_of(page: str) -> str:
    """The cells of a page's HTML."""
    return page[page.index("<main>") + len("<main>") : page.rindex("</main>")]


def text_notebook(text: str, opening: str = "") -> NotebookNode:
    """A notebook that holds one text.

    Args:
        opening: HTML that stands between the text's title, its first line, and the rest.
    """
    if not opening:
        return new_notebook(cells=[new_markdown_cell(text)])
    title, _, rest = text.partition("\n")
    shown = new_code_cell(outputs=[new_output("display_data", {"text/html": opening})])
    shown.metadata.transient = {"remove_source": True}
    return new_notebook(cells=[new_markdown_cell(title), shown, new_markdown_cell(rest)])

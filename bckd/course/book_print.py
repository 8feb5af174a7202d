"""All lessons on one page, to print or to read at one go."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bckd.course.book_page import body_of, link_to_style
from bckd.system.extras import extra
from bckd.system.files import write_text

with extra("notebooks", "the book"):
    from nbformat import NotebookNode

PICTURE = re.compile(r'src="data:image/(png|svg\+xml|jpeg);base64,\s*([^"]*)"')
# What makes up half of a page and can't be seen on paper: code's names and brackets as elements
# of their own, and the bars by which JupyterLab folds cells.
UNSEEN = re.compile(
    r'<span class="[npw]">([^<]*)</span>|<div class="jp-Collapser[^>]*>\s*</div>\n?'
)
ELSEWHERE = "An explorer stands here. It is on the lesson's own page."


def without_explorers(notebook: NotebookNode) -> NotebookNode:
    """A copy in which a line stands for each explorer: on paper nothing moves."""
    copied = copy.deepcopy(notebook)
    for cell in copied.cells:
        for output in cell.get("outputs", []):
            if "data-bckd=" in output.get("data", {}).get("text/html", ""):
                output.data = {"text/plain": ELSEWHERE}
    return copied


def write_print_page(path: Path, title: str, lessons: Sequence[tuple[str, str, str]]) -> None:
    """Write the page, and its pictures in files of a folder beside it.

    Args:
        path: of the page; the folder has its name, without the ending.
        lessons: address, title and HTML page of each, without explorers.
    """
    addresses = [address for address, _, _ in lessons]
    entries = "".join(
        f'<li><a href="#{_stem(address)}">{escape(name)}</a></li>' for address, name, _ in lessons
    )
    bodies = "".join(
        f'<section id="{_stem(address)}">{_anchored(body_of(page), address, addresses)}</section>\n'
        for address, _, page in lessons
    )
    html = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>{link_to_style()}</head>\n"
        '<body class="jp-Notebook book" data-jp-theme-light="true">\n'
        '<nav class="book-ways"><a href="index.html">The course</a></nav>\n'
        f"<main><h1>{escape(title)}</h1><ol>{entries}</ol>\n{bodies}</main></body></html>\n"
    )
    write_text(path, _with_picture_files(html, path.with_suffix("")))


def _stem(address: str) -> str:
    return address.removesuffix(".html")


def _anchored(body: str, address: str, addresses: Sequence[str]) -> str:
    """Anchors begin with their lesson's name; links between lessons stay on the page."""
    own = _stem(address)
    body = UNSEEN.sub(lambda element: element.group(1) or "", body)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{own}.\1"', body)
    body = re.sub(r'href="#([^"]*)"', rf'href="#{own}.\1"', body)

    def on_page(link: re.Match[str]) -> str:
        page, fragment = link.groups()
        if page not in addresses:
            return link.group()
        return f'href="#{_stem(page)}{"." + fragment if fragment else ""}"'

    return re.sub(r'href="([^"#:]+)#?([^"]*)"', on_page, body)


def _with_picture_files(html: str, folder: Path) -> str:
    """The pictures in files, so that the page itself stays small."""
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}

    def in_file(picture: re.Match[str]) -> str:
        """The address of a picture's file, which is written when its content comes first."""
        kind, content = picture.groups()
        if content not in names:
            ending = {"svg+xml": "svg", "jpeg": "jpg"}.get(kind, kind)
            names[content] = f"{folder.name}/{len(names):03}.{ending}"
            (folder.parent / names[content]).write_bytes(base64.b64decode(content))
        return f'src="{names[content]}"'

    return PICTURE.sub(in_file, html)

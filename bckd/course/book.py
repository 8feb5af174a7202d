"""The course as static pages: every notebook run anew and written as HTML, every text too.

    python -m bckd.course.book notebooks runs/book

Explorers come as pages of their own arithmetic (`BCKD_BOOK`), so that they work without a
kernel. `index.html` is the course's README and opens with an explorer, `search.html` finds words
in all pages, `all.html` has the lessons on one page. Nothing asks a server for anything.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bckd.course.book_links import page_address
from bckd.course.book_page import (
    STYLE_SHEET,
    Way,
    body_of,
    page_of,
    style_sheet,
    text_notebook,
)
from bckd.course.book_print import without_explorers, write_print_page
from bckd.course.book_search import SearchedPage, search_page
from bckd.course.book_sections import sections_of
from bckd.course.light_pictures import lighten
from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.system.files import write_text
from bckd.viz.explorers.base import Explorer
from bckd.viz.explorers.valley_and_bowl import ValleyAndBowl

with extra("notebooks", "the book"):
    import nbformat
    from nbclient import NotebookClient
    from nbformat import NotebookNode

CELL_SECONDS = 300  # a cell that takes longer is stuck
INDEX, SEARCH, ALL = "index.html", "search.html", "all.html"


def opening() -> Explorer:
    """The explorer that the book opens with, at the top of its index."""
    return ValleyAndBowl()


def write_book(notebooks: Path, out: Path) -> list[Path]:
    """Run the notebooks of a folder and write a page for each, and for each text beside them.

    Returns:
        The pages, in reading order: `index.html` of the folder's README.md where there is one,
        the notebooks, the other texts, the solutions, `search.html`, `all.html`.

    Raises:
        InputError: the folder holds no notebook.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    chapters, solutions = _chapters(notebooks), sorted((notebooks / "solutions").glob("*.ipynb"))
    if not any(path.suffix == ".ipynb" for path in [*chapters, *solutions]):
        raise InputError(f"{notebooks} holds no notebook; expected the course's folder")
    pages = {_address(path, notebooks): path for path in [*chapters, *solutions]}
    known = [*pages, SEARCH, ALL]
    searched, lessons = [], []
    for address, path in pages.items():
        print(path.relative_to(notebooks))
        notebook, title = _cells(path, address), title_of(path)
        ways = _ways(path, solutions if path in solutions else chapters)
        html = page_of(notebook, title, path.parent, page=address, pages=known, ways=ways)
        write_text(out / address, html)
        searched.append(SearchedPage(address, title, sections_of(body_of(html))))
        if path.suffix == ".ipynb" and path in chapters:
            still = without_explorers(notebook)
            lessons.append(
                (address, title, page_of(still, title, path.parent, page=address, pages=known))
            )
    write_text(out / STYLE_SHEET, style_sheet())
    write_text(out / SEARCH, search_page(searched))
    write_print_page(out / ALL, "All lessons", lessons)
    return [out / address for address in known]


def executed(path: Path) -> NotebookNode:
    """A notebook with new outputs, run in its own folder, explorers as static pages.

    Its pictures are those that notebooks are committed with, in few colours.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "BCKD_BOOK": "1"}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=environment)
    notebook.metadata.pop("widgets", None)  # the data of live explorers, a second time
    lighten(notebook)
    return notebook


def title_of(path: Path) -> str:
    """The first line of a notebook's first cell, or of a text."""
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    else:
        cells = nbformat.read(path, as_version=4).cells
        text = cells[0].source if cells and cells[0].cell_type == "markdown" else ""
    return text.partition("\n")[0].lstrip("# ") or path.stem


def _chapters(notebooks: Path) -> list[Path]:
    """README, notebooks by name, then the other texts as the README mentions them."""
    readme = notebooks / "README.md"
    said = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    texts = [path for path in notebooks.glob("*.md") if path != readme]
    texts.sort(key=lambda path: (said.find(path.name) % (len(said) + 1), path.name))
    return [readme] * bool(said) + sorted(notebooks.glob("*.ipynb")) + texts


def _address(path: Path, notebooks: Path) -> str:
    return page_address(path.relative_to(notebooks).as_posix())


def _cells(path: Path, address: str) -> NotebookNode:
    if path.suffix == ".ipynb":
        return executed(path)
    explorer = opening().static_html() if address == INDEX else ""
    return text_notebook(path.read_text(encoding="utf-8"), explorer)


def _ways(path: Path, beside: list[Path]) -> list[Way]:
    """The course, all on one page, and the pages before and after."""
    up = "../" if path.parent.name == "solutions" else ""
    ways = [Way(up + INDEX, "The course"), Way(up + ALL, "All on one page")]
    place = beside.index(path)
    if place > 0:
        before = beside[place - 1]
        ways.append(Way(page_address(before.name), f"← {title_of(before)}", "prev"))
    if place + 1 < len(beside):
        after = beside[place + 1]
        ways.append(Way(page_address(after.name), f"{title_of(after)} →", "next"))
    return ways


if __name__ == "__main__":
    write_book(Path(sys.argv[1]), Path(sys.argv[2]))

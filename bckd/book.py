"""The course as static pages: every notebook run anew and written as HTML.

    python -m bckd.book notebooks runs/book

Explorers come as pages of their own arithmetic (`BCKD_BOOK`), so that they work without a
kernel; links between notebooks lead to the pages.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from bckd.errors import InputError
from bckd.files import write_text

CELL_SECONDS = 300  # a cell that takes longer is stuck


def write_book(notebooks: Path, out: Path) -> list[Path]:
    """Run the notebooks of a folder, solutions included, and write a page for each.

    Returns:
        The pages, in the order of the notebooks' names.

    Raises:
        InputError: the folder holds no notebook.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    paths = sorted(notebooks.glob("*.ipynb")) + sorted((notebooks / "solutions").glob("*.ipynb"))
    if not paths:
        raise InputError(f"{notebooks} holds no notebook; expected the course's folder")
    pages = []
    for path in paths:
        print(path.relative_to(notebooks))
        page = out / path.relative_to(notebooks).with_suffix(".html")
        write_text(page, page_of(path))
        pages.append(page)
    return pages


def page_of(path: Path) -> str:
    """The HTML page of one notebook, run in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "BCKD_BOOK": "1"}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=environment)
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    return re.sub(r'(href="[^":]*)\.ipynb"', r'\1.html"', html)


if __name__ == "__main__":
    write_book(Path(sys.argv[1]), Path(sys.argv[2]))

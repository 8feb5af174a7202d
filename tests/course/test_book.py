"""The course as static pages."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bckd.course.book import index_page, write_book
from bckd.system.errors import InputError

LAB = (
    "from bckd.viz.explorers.protocol_lab import ProtocolLab\nProtocolLab([2.0, -1.0], [0.0, 1.0])"
)


def write(path: Path, *cells: nbformat.NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, path)


def test_pages_run_link_to_pages_and_hold_the_explorers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where not installed
    notebooks, out = tmp_path / "notebooks", tmp_path / "book"
    text = "# A title\n[next](02_b.ipynb), [elsewhere](https://example.org/x.ipynb)"
    write(notebooks / "01_a.ipynb", new_markdown_cell(text), new_code_cell(LAB))
    (notebooks / "README.md").write_text("# The course\n\n[first](01_a.ipynb)\n")
    write(notebooks / "02_b.ipynb", new_markdown_cell("# The second"))
    write(notebooks / "solutions" / "01_a_solutions.ipynb", new_code_cell("print(6 * 7)"))
    pages = write_book(notebooks, out)
    names = ("index.html", "01_a.html", "02_b.html", "solutions/01_a_solutions.html")
    assert pages == [out / name for name in names]
    index, first, second, solution = (page.read_text(encoding="utf-8") for page in pages)
    assert 'href="02_b.html"' in first and 'href="https://example.org/x.ipynb"' in first
    assert 'data-bckd="protocol_lab"' in first
    assert "<title>A title</title>" in first
    assert "application/vnd.jupyter.widget-state" not in first  # the explorer's data, once
    assert '<a href="01_a.html">Previous</a>' in second and "Next</a>" not in second
    assert ">42\n" in solution
    assert "<title>The course</title>" in index and 'href="01_a.html"' in index
    assert '<a href="index.html">The course</a>' in first
    assert '<a href="02_b.html">Next</a>' in first and "Previous</a>" not in first
    assert '<a href="../index.html">The course</a>' in solution and "Next</a>" not in solution


def test_formulas_are_drawn_by_the_browser(tmp_path: Path) -> None:
    text = "the gap $|p_t - p_s|$ and\n\n$$L = \\sum_i (1 - u_i)$$\n\n| a |\n|---|\n| $a_1$ |\n"
    (tmp_path / "README.md").write_text(text)
    page = index_page(tmp_path / "README.md")
    body = page[page.index("<main>") :]
    assert body.count("<math") == 3 and body.count('display="block"') == 1 and "$" not in body
    assert not re.search(r"<script[^>]+src=", page) and "import(" not in page


def test_a_page_holds_the_drawings_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "README.md").write_text(
        "# Title\n\n![a drawing](figures/a.svg)\n\n![none](absent.svg)\n"
    )
    page = index_page(tmp_path / "README.md")
    assert 'src="data:image/svg+xml;base64,' in page and "figures/a.svg" not in page
    assert 'src="absent.svg"' in page


def test_a_cell_that_fails_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "notebooks" / "01_a.ipynb", new_code_cell("1 / 0"))
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        write_book(tmp_path / "notebooks", tmp_path / "book")
    assert not (tmp_path / "book").exists()


def test_a_folder_without_notebooks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no notebook"):
        write_book(tmp_path, tmp_path / "book")

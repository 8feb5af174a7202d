"""The course as static pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bckd.course.book import write_book
from bckd.course.book_links import address_in_book
from bckd.course.book_markdown import PageText
from bckd.course.book_page import page_of, style_sheet, text_notebook
from bckd.course.book_pictures import LONGEST, introduction
from bckd.course.book_sections import Section, sections_of
from bckd.system.errors import InputError

LAB = (
    "from bckd.viz.explorers.protocol_lab import ProtocolLab\nProtocolLab([2.0, -1.0], [0.0, 1.0])"
)
DRAWING = "<svg xmlns='http://www.w3.org/2000/svg'/>"
FIRST = """# A title

[next](02_b.ipynb#cell-id=sum), [page](evidence.md#the-slide), [file](../bckd/structures.py)
and [elsewhere](https://example.org/x.ipynb)

## A part

![a drawing](figures/a.svg)
"""


def write(path: Path, *cells: nbformat.NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of a small course, in their order."""
    notebooks, out = (tmp_path_factory.mktemp("course") / x for x in ("notebooks", "book"))
    part = new_code_cell("print(6 * 7)", metadata={"tags": ["setup"]}, id="set")
    write(notebooks / "01_a.ipynb", new_markdown_cell(FIRST), new_code_cell(LAB, id="lab"), part)
    write(notebooks / "02_b.ipynb", new_markdown_cell("# The second"), new_code_cell("1", id="sum"))
    write(notebooks / "solutions" / "01_a_solutions.ipynb", new_code_cell("print(6 * 8)"))
    (notebooks / "figures").mkdir()
    (notebooks / "figures" / "a.svg").write_text(DRAWING)
    (notebooks / "README.md").write_text(
        "# The course\n\n[first](01_a.ipynb), then [evidence](evidence.md), [terms](a_terms.md)\n"
    )
    (notebooks / "evidence.md").write_text("# Evidence\n\n## The slide\n\nAn interval.\n")
    (notebooks / "a_terms.md").write_text("# Terms\n\nBack to [the course](README.md).\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where not installed
        pages = write_book(notebooks, out)
    return {page.relative_to(out).as_posix(): page.read_text(encoding="utf-8") for page in pages}


def test_every_file_has_its_page_in_reading_order(book: dict[str, str]) -> None:
    lessons, texts = ["01_a.html", "02_b.html"], ["evidence.html", "a_terms.html"]
    solutions = ["solutions/01_a_solutions.html"]
    assert list(book) == ["index.html", *lessons, *texts, *solutions, "search.html", "all.html"]
    assert ">42\n" in book["01_a.html"] and ">48\n" in book[solutions[0]]  # they were run
    assert "<title>A title</title>" in book["01_a.html"]
    assert "<title>The course</title>" in book["index.html"]


def test_the_index_opens_with_an_explorer(book: dict[str, str]) -> None:
    index = book["index.html"]
    title, lab, rest = (index.index(x) for x in ("<h1", 'data-bckd="', "then "))
    assert title < lab < rest


def test_explorers_are_in_the_lessons_and_not_on_paper(book: dict[str, str]) -> None:
    assert 'data-bckd="protocol_lab"' in book["01_a.html"]
    assert "application/vnd.jupyter.widget-state" not in book["01_a.html"]  # its data, once
    assert "data-bckd" not in book["all.html"] and "An explorer stands here" in book["all.html"]


def test_each_page_leads_to_its_neighbours_at_both_ends(book: dict[str, str]) -> None:
    def ways(page: str) -> list[tuple[str, str]]:
        return re.findall(r'<a href="([^"]*)" rel="(prev|next)">', book[page])

    assert ways("index.html") == [("01_a.html", "next")] * 2
    assert ways("02_b.html") == [("01_a.html", "prev"), ("evidence.html", "next")] * 2
    assert ways("solutions/01_a_solutions.html") == []
    assert '<a href="../index.html">The course</a>' in book["solutions/01_a_solutions.html"]
    assert 'action="../search.html"' in book["solutions/01_a_solutions.html"]


def test_every_link_of_the_book_leads_somewhere(book: dict[str, str]) -> None:
    for name, page in book.items():
        for address in re.findall(r'<a [^>]*href="([^"]*)"', page):
            if address.startswith("https:"):
                continue
            path, _, anchor = address.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path or name))
            target = name if not path else target
            assert target in book, address
            assert not anchor or f'id="{anchor}"' in book[target], address


def test_pages_share_a_style_and_ask_no_server(book: dict[str, str]) -> None:
    for name, page in book.items():
        sheet = "../style.css" if "/" in name else "style.css"
        linked = re.findall(r'<link [^>]*href="([^"]*)"', page)
        assert linked == ([] if name == "search.html" else [sheet])
        assert not re.search(r"""(src|action)=["'](https?:)?//|@import|url\(["']?http""", page)
    assert len(book["02_b.html"]) < 10_000
    sheet = style_sheet()
    assert ".jp-Cell" in sheet and ".book-contents" in sheet


def test_set_up_is_folded(book: dict[str, str]) -> None:
    folded = re.findall(r'<details class="book-setup">.*?</details>', book["01_a.html"], re.DOTALL)
    assert len(folded) == 1 and "42" in folded[0]
    assert "book-setup" not in book["02_b.html"].partition("<main>")[2]


def test_contents_name_every_part(book: dict[str, str]) -> None:
    contents = re.search(r"<aside.*?</aside>", book["01_a.html"], re.DOTALL)
    assert contents and re.findall(r'href="(#[^"]*)">([^<]*)', contents.group()) == [
        ("#a-part", "A part")
    ]


def test_the_search_page_holds_every_section(book: dict[str, str]) -> None:
    found = re.search(r'<script type="application/json">(.*?)</script>', book["search.html"])
    assert found
    sections = json.loads(found.group(1))
    places = {section["address"]: section for section in sections}
    assert places["evidence.html#the-slide"]["text"] == "An interval."
    assert "print(6 * 7)" in places["01_a.html#a-part"]["text"]
    assert "In\xa0[" not in found.group(1) and "data-bckd" not in found.group(1)


def test_on_one_page_anchors_belong_to_their_lesson(book: dict[str, str]) -> None:
    page = book["all.html"]
    assert 'href="#02_b.cell-id=sum"' in page and 'id="02_b.cell-id=sum"' in page
    assert 'id="01_a.a-part"' in page and 'src="all/000.svg"' in page
    assert page.count("<section") == 2  # lessons alone


class TestLinks:
    PAGES = ("index.html", "02_b.html", "solutions/a.html")

    @pytest.mark.parametrize(
        ("address", "page", "there"),
        [
            ("02_b.ipynb#x", "index.html", "02_b.html#x"),
            ("../02_b.ipynb", "solutions/a.html", "../02_b.html"),
            ("README.md", "02_b.html", "index.html"),
            ("../README.md", "solutions/a.html", "../index.html"),
            ("../README.md", "02_b.html", None),  # the repository's, not the course's
            ("solutions/a.ipynb", "index.html", "solutions/a.html"),
            ("figures/a.svg", "index.html", None),
            ("#x", "index.html", "#x"),
            ("https://example.org/a.md", "index.html", "https://example.org/a.md"),
        ],
    )
    def test_address(self, address: str, page: str, there: str | None) -> None:
        assert address_in_book(address, page, self.PAGES) == there

    def test_what_has_no_page_keeps_its_words(self, book: dict[str, str]) -> None:
        assert 'title="In the repository">file</span>' in book["01_a.html"]
        assert 'href="https://example.org/x.ipynb"' in book["01_a.html"]


def test_headings_have_anchors_as_on_github(tmp_path: Path) -> None:
    text = PageText(tmp_path, "index.html", ())
    html = text.html("## What's `beta`, at 0?\n") + text.html("### Measured\n\n### Measured\n")
    assert re.findall(r'id="([^"]*)"', html) == ["whats-beta-at-0", "measured", "measured-1"]


def test_sections_leave_out_scripts_and_signs() -> None:
    page = (
        '<p>before</p><h2 id="a">A <em>part</em><a class="book-anchor" href="#a">#</a></h2>'
        "<p>one</p><p>two</p><script>var x</script><style>p {}</style>"
        '<h3 id="b">B</h3><div class="jp-InputPrompt">In [1]:</div><pre>1 &lt; 2</pre>'
    )
    assert sections_of(page) == [
        Section(2, "a", "A part", "one two"),
        Section(3, "b", "B", "1 < 2"),
    ]


def test_formulas_are_drawn_by_the_browser(tmp_path: Path) -> None:
    text = "the gap $|p_t - p_s|$ and\n\n$$L = \\sum_i (1 - u_i)$$\n\n| a |\n|---|\n| $a_1$ |\n"
    page = page_of(text_notebook(text), "", tmp_path)
    body = page[page.index("<main>") :]
    assert body.count("<math") == 3 and body.count('display="block"') == 1 and "$" not in body
    assert not re.search(r"<script[^>]+src=", page) and "import(" not in page


def test_a_page_holds_the_drawings_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.svg").write_text(DRAWING)
    text = "# Title\n\n![a drawing](figures/a.svg)\n\n![none](absent.svg)\n"
    page = page_of(text_notebook(text), "Title", tmp_path)
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("## Part\n\nOne.\n\nThe *shares* of [it](a.md#b), $q_s$:", "The shares of it, q_s:"),
        ("Two lines\nare `one`.\n\n| a |\n| --- |", "Two lines are one."),
        ("# A title", "A title"),
        ("", ""),
        ("Long. " * 99 + "The last.", None),
    ],
)
def test_a_picture_is_described_by_what_introduces_it(text: str, said: str | None) -> None:
    found = introduction(text)
    if said is None:
        assert len(found) <= LONGEST and found.endswith("Long. The last.")
    else:
        assert found == said


def test_pictures_have_their_description(tmp_path: Path) -> None:
    shown = [new_output("display_data", {"image/png": "iVBO"}) for _ in range(2)]
    alone, told = (new_code_cell("1", outputs=[output]) for output in shown)
    cells = [alone, new_markdown_cell("Both, each < 1:"), new_code_cell("2"), told]
    html = page_of(new_notebook(cells=cells), "a page", tmp_path)
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,iVBO"/>', html)
    assert found == ["A figure", "Figure: Both, each &lt; 1:"]

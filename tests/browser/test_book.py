"""The book's pages in a real browser: search, contents, width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bckd.course.book_page import STYLE_SHEET, Way, page_of, style_sheet, text_notebook
from bckd.course.book_search import SearchedPage, search_page
from bckd.course.book_sections import sections_of

TEXT = (
    "# Losses\n\nWhat follows.\n\n## A divisor\n\nPositives divide.\n\n## Shifts\n\nA shift, "
    + ("unseen <b>by</b> softmax. " * 40)
)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    page = page_of(text_notebook(TEXT), "Losses", folder, ways=[Way("a.html", "The course")])
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / STYLE_SHEET).write_text(style_sheet(), encoding="utf-8")
    found = [SearchedPage("index.html", "Losses", sections_of(page))]
    (folder / "search.html").write_text(search_page(found), encoding="utf-8")
    return folder


def test_a_word_is_found_from_any_page(chromium: Any, book: Path) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.goto((book / "index.html").as_uri())
    contents = page.locator(".book-contents details")
    assert contents.get_attribute("open") is None  # folded where it would be in the way
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    search = page.get_by_role("searchbox").first
    search.fill("SHIFT softmax")
    search.press("Enter")
    assert page.get_by_role("status").inner_text() == "1 section"
    assert page.locator("mark").first.inner_text() == "shift"
    page.get_by_role("searchbox").fill("ivisor")  # words are found from their beginning
    assert page.get_by_role("status").inner_text() == "0 sections"
    page.get_by_role("searchbox").fill("divi")
    page.get_by_role("link", name="A divisor").click()
    assert page.url.endswith("index.html#a-divisor")
    page.set_viewport_size({"width": 1200, "height": 300})
    page.reload()
    assert contents.get_attribute("open") is not None
    page.get_by_role("link", name="Shifts", exact=True).click()
    assert page.evaluate("scrollY") > 100
    assert 0 <= contents.bounding_box()["y"] < 100  # stays in view
    page.close()

"""The deck in a real browser: keys, notes, a phone, paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bckd.course.deck import deck
from bckd.course.deck_slides import SLIDES

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_keys_turn_slides_and_show_notes(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "deck.html"
    path.write_text(deck(SLIDES, NOTEBOOKS), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1200, "height": 675})
    page.goto(path.as_uri())
    place, shown = page.get_by_role("status"), page.locator("section:visible h2")
    for key, number in (
        ("ArrowRight", 2),
        ("PageDown", 3),
        (" ", 4),
        ("ArrowLeft", 3),
        ("End", 12),
        ("ArrowRight", 12),
        ("Home", 1),
        ("ArrowLeft", 1),
    ):
        page.keyboard.press(key)
        assert place.inner_text() == f"{number} / 12"
        assert shown.all_inner_texts() == [SLIDES[number - 1].title]
    notes = page.locator(".notes:visible")
    assert notes.count() == 0
    page.keyboard.press("n")
    assert notes.all_inner_texts() == [SLIDES[0].notes]
    page.keyboard.press("n")
    assert notes.count() == 0

    sizes = page.evaluate("[...document.images].map((picture) => picture.naturalWidth)")
    assert len(sizes) == 12 and min(sizes) > 200  # each can be drawn
    for number in range(12):
        assert page.evaluate("document.documentElement.scrollHeight") <= 675, number + 1
        page.keyboard.press("ArrowRight")

    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Back").click()
    assert place.inner_text() == "11 / 12" and page.url.endswith("#11")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    pages = page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n")
    assert pages == 12
    page.close()

"""The deck: twelve slides, each with a picture in the page and with notes; numbers as published."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from bckd.course.deck import deck
from bckd.course.deck_slides import SLIDES
from bckd.course.notebook_pictures import picture_of
from bckd.system.errors import InputError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PNG, SVG = b"\x89PNG", b"<svg"


def test_every_slide_has_its_text_its_notes_and_its_picture_in_the_page() -> None:
    page = deck(SLIDES, NOTEBOOKS)
    assert page.count("<section") == len(SLIDES) == 12
    assert re.findall(r'<aside class="notes">(.{100,})</aside>', page).__len__() == 12
    pictures = re.findall(r'<img alt="[^"]{20,}" src="data:image/[\w+]+;base64,([^"]+)">', page)
    assert len(pictures) == 12
    assert all(base64.b64decode(content).startswith((PNG, SVG)) for content in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in re.sub(
        r'src="[^"]*"', "", page
    )


def test_texts_are_short() -> None:
    assert all(len(slide.lines) <= 3 for slide in SLIDES)
    assert max(len(line) for slide in SLIDES for line in slide.lines) <= 90


def test_numbers_are_the_published_ones() -> None:
    """Every AP of a slide or its notes stands in the evidence, with the same interval."""
    evidence = (NOTEBOOKS / "evidence.md").read_text(encoding="utf-8")
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    text = "\n".join("\n".join((*slide.lines, slide.notes)) for slide in SLIDES)
    interval = r"(\d+\.\d) (\[-?\d+\.\d, \d+\.\d\])"
    quoted = re.findall(interval, text)
    assert len(quoted) >= 6 and set(quoted) <= set(re.findall(interval, evidence))
    others = re.findall(r"\d+\.\d", re.sub(interval, "", text))
    assert others == ["40.1", "43.2"] and all(f"{number}" in readme for number in others)


class TestPictures:
    def test_of_a_cell(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ipynb"
        shown = {"data": {"image/png": ["aGVs", "bG8=\n"]}}
        text = {"data": {"text/plain": "1"}}
        cells = [{"id": "one", "outputs": [shown, text]}, {"id": "two", "outputs": [text]}]
        path.write_text(json.dumps({"cells": cells}))
        assert picture_of(path, "one") == b"hello"
        for cell in ("two", "three"):
            with pytest.raises(InputError, match=f"a.ipynb has no cell '{cell}' that shows"):
                picture_of(path, cell)

    def test_a_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="method.svg, which a slide shows, does not exist"):
            deck(SLIDES, tmp_path)

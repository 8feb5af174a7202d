"""Texts of figures in any script."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest

from bckd.viz import style
from bckd.viz.style import figure


def drawn(words: str) -> tuple[str, list[str]]:
    """A title after it was drawn, and its font families; no glyph may be missing."""
    drawing = figure(2, 2)
    title = drawing.subplots().set_title(words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.savefig(io.BytesIO(), format="png")
    return title.get_text(), title.get_fontfamily()


@pytest.mark.parametrize("words", ["nut", "Gr\u00f6\u00dfe 6", "$l_s - l_t$\nsecond line"])
def test_what_the_font_has_stays_as_it_is(words: str) -> None:
    before = figure(2, 2).subplots().set_title(words).get_fontfamily()
    assert drawn(words) == (words, before)


def test_without_a_font_there_are_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "_family_with", lambda characters: None)
    assert drawn("\u87ba nut")[0] == "\\u87ba nut"


def test_another_font_is_taken_where_one_has_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmmi10, which matplotlib brings along, stands for a font of another script."""
    has = style._has
    monkeypatch.setattr(
        style, "_has", lambda path, x: "cmmi10" in Path(path).name and has(path, "a")
    )
    style._family_with.cache_clear()
    words, families = drawn("\u00f6")
    style._family_with.cache_clear()
    assert words == "\u00f6" and families[-1] == "cmmi10"

"""Colours and the look shared by all figures."""

from __future__ import annotations

from functools import cache
from typing import Any

import matplotlib
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from bckd.reports.colours import PALETTE, SCORES, colour

__all__ = [
    "DIFFERENCE_COLOURS",
    "PALETTE",
    "ROLE_COLOURS",
    "SCORE_COLOURS",
    "Style",
    "colour",
    "figure",
    "readable",
]
Style = dict[str, Any]  # keyword arguments of matplotlib, of many kinds
SCORE_COLOURS = matplotlib.colormaps[SCORES]
DIFFERENCE_COLOURS = matplotlib.colormaps["magma"]
# The roles that return in every figure and explorer (theme.css has the same); a student has a
# colour of its own where it is not yet said what taught it.
ROLE_COLOURS = {
    "teacher": PALETTE[2],
    "student": PALETTE[5],
    "labels": PALETTE[7],
    "softmax": PALETTE[1],
    "BCKD": PALETTE[0],
}


def figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches, outside pyplot's state.

    Texts whose script its font lacks (a class name may be in any) are drawn in an installed font
    that has it; where there is none, the characters are shown as escapes, as on a terminal.
    """
    return ReadableFigure(figsize=(width, height), dpi=100, layout="constrained")


class ReadableFigure(Figure):
    """See `figure`."""

    def draw(self, renderer: RendererBase) -> None:
        """As matplotlib does, with names in a font that has their letters."""
        for text in self.findobj(Text):
            if not text.get_text().isascii():
                words, families = readable(text.get_text(), text.get_fontfamily())
                text.set_text(words)
                text.set_fontfamily(families)
        super().draw(renderer)


def readable(words: str, families: list[str]) -> tuple[str, list[str]]:
    """A text as fonts can show it, and their families: one more where these lack its script."""
    if not (missing := _missing(words, families)):
        return words, families
    other = _family_with(missing)
    if other is not None:
        return words, [*families, other]
    for character in set(missing):
        words = words.replace(character, character.encode("ascii", "backslashreplace").decode())
    return words, families


def _missing(words: str, families: list[str]) -> str:
    """The characters that no font of the families has."""
    paths = [findfont(FontProperties(family=[family])) for family in families]
    return "".join(x for x in words if x.isprintable() and not any(_has(p, x) for p in paths))


@cache
def _family_with(characters: str) -> str | None:
    """The first installed font that has all of the characters."""
    for font in fontManager.ttflist:
        # matplotlib's own "Last Resort" has a box for every character.
        if not font.name.startswith("Last Resort") and all(
            _has(font.fname, character) for character in characters
        ):
            return font.name
    return None


@cache
def _has(path: str, character: str) -> bool:
    return get_font(path).get_char_index(ord(character)) != 0

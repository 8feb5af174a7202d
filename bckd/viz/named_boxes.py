"""One picture with boxes and their names, in pixels: of any size, and on any background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from bckd.viz.style import colour, readable

_SHORTEST = 640  # pixels of the longer side that a picture is enlarged to, at least
_LETTERS, _LINES = 34, 200  # by these parts of its mean side are letters high and lines wide
_SMALLEST = 12  # pixels of a letter's height

Area = tuple[float, float, float, float]


def named_boxes(
    picture: np.ndarray, boxes: Tensor, labels: Tensor, scores: Tensor, names: Sequence[str]
) -> Image.Image:
    """A picture with all of these boxes, enlarged by a whole factor where it is small.

    Lines and letters grow with the picture. A name stands in its class's colour above the box,
    or where it hides no name of a better one and stays in the picture.

    Args:
        picture: (H, W, 3) uint8.
        boxes: (D, 4) xyxy pixels of the picture, best first.
        labels: (D,) class index.
        scores: (D,) in 0..1.
        names: D texts.
    """
    height, width, _ = picture.shape
    factor = -(-_SHORTEST // max(height, width))
    drawn = Image.fromarray(picture).resize(
        (width * factor, height * factor), Image.Resampling.NEAREST
    )
    side = (drawn.width + drawn.height) / 2
    line = max(2, round(side / _LINES))
    canvas = ImageDraw.Draw(drawn)
    places = (boxes.double() * factor).tolist()
    colours = [colour(label) for label in labels.tolist()]
    for place, own in reversed(list(zip(places, colours, strict=True))):  # the best on top
        canvas.rectangle(_around(place, 1), outline=_on(own), width=line + 2)
        canvas.rectangle(place, outline=own, width=line)
    texts = [f"{name} {score:.2f}" for name, score in zip(names, scores.tolist(), strict=True)]
    _write(canvas, places, texts, colours, max(_SMALLEST, round(side / _LETTERS)))
    return drawn


def _around(place: Sequence[float], margin: float) -> Area:
    x, y, right, bottom = place
    return x - margin, y - margin, right + margin, bottom + margin


def _write(
    canvas: ImageDraw.ImageDraw,
    places: Sequence[Sequence[float]],
    texts: Sequence[str],
    colours: Sequence[str],
    size: int,
) -> None:
    """Write texts at boxes, each where no better one stands, if there is such a place."""
    placed: list[tuple[Area, str, ImageFont.FreeTypeFont, str]] = []
    for place, text, own in zip(places, texts, colours, strict=True):
        words, font = _font(text, size)
        wide, high = canvas.textlength(words, font) + size / 2, size * 1.3
        areas = list(_areas(place, wide, high, canvas.im.size))
        free = (area for area in areas if not any(_overlap(area, other[0]) for other in placed))
        placed.append((next(free, areas[0]), words, font, own))
    for area, words, font, own in reversed(placed):  # the best on top
        left, top, _, bottom = area
        canvas.rectangle(area, fill=own)
        canvas.text((left + size / 4, (top + bottom) / 2), words, _on(own), font, anchor="lm")


def _areas(
    place: Sequence[float], wide: float, high: float, size: tuple[int, int]
) -> Iterator[Area]:
    """Where a text may stand in the picture, the best first: above the box, in it, below it."""
    x, y, right, bottom = place
    limit = max(size[0] - wide, 0), max(size[1] - high, 0)
    for left, top in (
        (x, y - high),
        (x, y),
        (x, bottom),
        (x, bottom - high),
        (right - wide, y - high),
        (right - wide, y),
        (right - wide, bottom - high),
    ):
        if 0 <= top <= limit[1]:
            left = min(max(left, 0), limit[0])
            yield left, top, left + wide, top + high
    left, top = min(max(x, 0), limit[0]), min(max(y, 0), limit[1])
    yield left, top, left + wide, top + high


def _overlap(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _on(own: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = ImageColor.getrgb(own)[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text as it can be written, and the font for it."""
    words, families = readable(text, ["DejaVu Sans"])
    return words, ImageFont.truetype(findfont(FontProperties(family=[families[-1]])), size)

"""The README's picture: it can be made anew, and the committed one has all its colours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bckd.course.readme_picture import DETECTORS, DOTS, readme_picture

ROOT = Path(__file__).parents[2]


def panels_of(drawing: Figure) -> list[np.ndarray]:
    return [axes.images[0].get_array() for axes in drawing.axes[:-1]]


def test_it_is_made_of_the_committed_weights() -> None:
    drawing = readme_picture((7,))
    assert [axes.get_title() for axes in drawing.axes[1:-1:2]] == list(DETECTORS)
    picture, *others = panels_of(drawing)
    assert all(np.array_equal(boxes, picture) for boxes in others[::2])
    teacher, alone, taught = others[1::2]
    # The teacher is sure of its objects; a student that it taught is surer than one alone.
    assert teacher.max() > taught.max() > alone.max()


def test_the_committed_picture_is_wide_and_in_full_colour() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"!\[[^]]+\]\((\S+overview\.png)\)", text)
    with Image.open(ROOT / name) as picture:
        assert picture.mode in ("RGB", "RGBA")  # a palette changes the colours of the bar
        assert picture.width > 3 * picture.height
        assert picture.width > 8 * DOTS  # inches

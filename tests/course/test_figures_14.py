"""What the figure of gains shows, and what it reads of the page of published methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from bckd.course.figures_14 import gains_beside, published_gains
from bckd.studies.statistics import interval_of
from bckd.system.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "notebooks/methods.md"


def test_gains_are_those_of_the_page() -> None:
    gains = published_gains(PAGE.read_text(encoding="utf-8"))
    assert gains["YOLO26 n, s, m, l, x"] == pytest.approx([0.6, 0.6, 0.8, 1.0, 0.4])
    assert not {"D-FINE", "EdgeCrafter ECDet", "NanoDet-Plus"} & set(gains), "they have no twin"
    assert len(gains) == 8


def test_a_page_without_such_a_table_is_refused() -> None:
    with pytest.raises(InputError, match="no family with pairs"):
        published_gains("| family | gain |\n| a | 1.0 |")


def test_rows_are_in_points() -> None:
    drawing = gains_beside({"a": interval_of(0.02, 0.01, 5)}, {"b": [0.5, 1.0], "c": [3.0]})
    above, below = drawing.axes
    assert above.lines[1].get_xdata()[0] == pytest.approx(2)
    interval = list(above.lines[0].get_xdata())
    assert interval == pytest.approx([2 - 2.776, 2 + 2.776], abs=1e-3)
    assert list(below.lines[0].get_xdata()) == [0.5, 1.0]
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["b", "c"]

"""What the figures of related work show."""

from __future__ import annotations

import numpy as np
import pytest

from bckd.course.figures_15 import Panel, location_bars, panel_rows, share_bars
from bckd.system.errors import InputError

BOXES = np.array([[1.0, 2.0, 5.0, 6.0]])


def test_compared_maps_of_a_row_share_their_scale_and_a_pull_has_its_own() -> None:
    low, high = np.zeros((2, 2)), np.full((2, 2), 3.0)
    high[0, 0] = np.nan
    row = [Panel("a", low), Panel("b", high), Panel("pull", np.full((4, 4), 0.5), "pull")]
    drawing = panel_rows({"method": row}, BOXES, (4.0, 4.0), 8)
    images = [axes.images[0] for axes in drawing.axes]
    assert [image.get_clim() for image in images] == [(0, 3), (0, 3), (0, 0.5)]
    assert {tuple(image.get_extent()) for image in images} == {(0, 8, 8, 0)}
    box = drawing.axes[0].patches[0]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (1, 2, 4, 4)
    assert drawing.axes[0].get_ylabel() == "method"
    assert len(drawing.axes[0].patches) == 3  # the ring has two edges
    without = panel_rows({"method": row}, BOXES, None, 8)
    assert len(without.axes[0].patches) == 1


def test_rows_of_other_lengths_are_refused() -> None:
    panel = Panel("a", np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"the rows have \[1, 2\] panels"):
        panel_rows({"a": [panel], "b": [panel, panel]}, BOXES, (4.0, 4.0), 8)


def test_bars_stand_side_by_side() -> None:
    (axes,) = location_bars({"scores": ([0.9, 0.1], [0.2, 0.3])}, ["a", "b"], "class").axes
    assert [bar.get_height() for bar in axes.patches] == [0.9, 0.1, 0.2, 0.3]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]


def test_shares_are_percentages_beside_that_of_the_cells() -> None:
    (axes,) = share_bars({"features": {"a": 0.2, "b": 0.9}, "relations": {"c": 0.5}}, 0.4).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([20, 90, 50])
    assert axes.lines[0].get_xdata()[0] == pytest.approx(40)
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[1] != colours[2]

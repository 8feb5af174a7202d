"""Curves of the IoU family against known values; what the other figures show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bckd.course.figures_04 import (
    KINDS,
    descent_curves,
    iou_curve,
    iou_curves,
    place_maps,
    side_distributions,
)
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.explorer_figures import MODEL_COLOURS

TARGET = torch.tensor([0.0, 0.0, 10.0, 10.0])
INSIDE = torch.tensor([-2.0, 0.0, 2.0])


def across(side: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """A square of this side, its centre at the target's and moved along x by the position."""
    box = torch.tensor([5 - side / 2, 5 - side / 2, 5 + side / 2, 5 + side / 2])
    return lambda position: box + position[:, None] * torch.tensor([1.0, 0, 1, 0])


class TestIoUCurve:
    def test_boxes_apart(self) -> None:
        apart = torch.tensor([20.0])
        losses, slopes = iou_curve(across(10), apart, TARGET, "iou")
        assert losses.tolist() == [1] and slopes.tolist() == [0]
        losses, slopes = iou_curve(across(10), apart, TARGET, "giou")
        assert losses[0] == pytest.approx(1 + 100 / 300) and slopes[0] > 0

    def test_a_box_inside(self) -> None:
        found = {kind: iou_curve(across(4), INSIDE, TARGET, kind) for kind in KINDS}
        for kind in ("iou", "giou"):
            assert found[kind][0] == pytest.approx([0.84] * 3)
            assert found[kind][1] == pytest.approx([0] * 3)
        losses, slopes = found["diou"]
        assert losses == pytest.approx([0.84 + 4 / 200, 0.84, 0.84 + 4 / 200])
        assert slopes == pytest.approx([-4 / 200, 0, 4 / 200])

    def test_the_positions_are_left_alone(self) -> None:
        iou_curve(across(4), INSIDE, TARGET, "ciou")
        assert not INSIDE.requires_grad


class TestSideDistributions:
    def test_a_panel_a_side_and_temperature(self) -> None:
        logits = {"teacher": torch.randn(4, 9), "student": torch.zeros(4, 9)}
        drawing = side_distributions(logits, (1.0, 10.0))
        assert len(drawing.axes) == 8
        heights = [bar.get_height() for bar in drawing.axes[0].patches]
        assert heights[:9] == pytest.approx(logits["teacher"][0].softmax(-1).tolist(), abs=1e-6)
        assert heights[9:] == pytest.approx([1 / 9] * 9)
        marks = [line.get_xdata()[0] for line in drawing.axes[0].lines]
        assert marks[1] == pytest.approx(4)
        colours = [line.get_color() for line in drawing.axes[0].lines]
        assert colours == list(MODEL_COLOURS[:2]), "as in the explorers"
        assert not drawing.axes[4].lines, "a softened distribution's mean is no side"

    def test_different_bins(self) -> None:
        with pytest.raises(InputError, match="expected one"):
            side_distributions({"a": torch.zeros(4, 9), "b": torch.zeros(4, 8)})


def test_iou_curves_has_three_rows_a_path() -> None:
    path = (across(4), INSIDE)
    drawing = iou_curves({"inside": path, "again": path}, TARGET)
    assert len(drawing.axes) == 6
    losses = drawing.axes[2]
    assert [line.get_label() for line in losses.lines] == ["IoU", "GIoU", "DIoU", "CIoU"]
    assert losses.lines[0].get_ydata() == pytest.approx([0.84] * 3)


def test_descent_curves_has_a_panel_a_quantity() -> None:
    drawing = descent_curves({"IoU": {"iou": [0, 0], "giou": [0, 0.2]}, "width": {"iou": [1]}})
    assert [axes.get_ylabel() for axes in drawing.axes] == ["IoU", "width"]
    assert list(drawing.axes[0].lines[1].get_ydata()) == [0, 0.2]


def test_place_maps_show_the_highest_level(dense_output: Callable[..., DenseOutput]) -> None:
    output = dense_output()  # 4 x 5 cells of 8 pixels, 2 x 3 of 16
    values = torch.zeros(2, 26)
    values[0, 0], values[0, 25] = 0.25, 0.75
    pictures = [np.zeros((32, 40, 3), np.uint8)] * 2
    drawing = place_maps(pictures, {"weight": values}, output)
    shown = drawing.axes[1].images[0].get_array()
    assert shown.shape == (32, 40)
    assert shown[0, 0] == 0.25 and shown[-1, -1] == 0.75
    assert drawing.axes[1].get_title() == "weight"

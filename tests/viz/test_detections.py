"""Images with boxes on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.viz.detections import detection_grid, draw_boxes
from bckd.viz.style import PALETTE, colour, figure

PICTURE = np.full((40, 60, 3), 128, dtype=np.uint8)
BOXES = torch.tensor([[5.0, 6, 25, 30], [10.0, 10, 50, 38], [0.0, 0, 8, 9]])
LABELS = torch.tensor([0, 2, 1])
SCORES = torch.tensor([0.9, 0.3, 0.1])
NOTHING = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))


def axes() -> Axes:
    return figure(2, 2).subplots()


def extents(panel: Axes) -> set[tuple[float, ...]]:
    patches = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    return {(*p.get_xy(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in patches}


def boxes_as_tuples(boxes: Tensor) -> set[tuple[float, ...]]:
    return {tuple(box) for box in boxes.tolist()}


class TestDrawBoxes:
    def test_every_box_of_the_ground_truth(self) -> None:
        panel = axes()
        draw_boxes(panel, PICTURE, BOXES, LABELS)
        assert extents(panel) == boxes_as_tuples(BOXES)
        assert not panel.texts and not panel.axison
        (image,) = panel.images
        assert np.array_equal(image.get_array(), PICTURE)

    @pytest.mark.parametrize(("threshold", "count"), [(0.05, 3), (0.2, 2), (0.5, 1), (0.95, 0)])
    def test_low_scores_are_not_drawn(self, threshold: float, count: int) -> None:
        panel = axes()
        draw_boxes(panel, PICTURE, BOXES, LABELS, SCORES, threshold)
        assert extents(panel) == boxes_as_tuples(BOXES[:count].flip(0))
        told = [text.get_text() for text in panel.texts]
        assert told == ["0.90", "0.30", "0.10"][:count][::-1], "the best is drawn last"

    def test_a_score_stays_in_the_picture(self) -> None:
        panel = axes()
        boxes = torch.tensor([[2.0, 1.0, 20.0, 20.0], [2.0, 12.0, 20.0, 30.0]])
        draw_boxes(panel, PICTURE, boxes, torch.zeros(2, dtype=int), torch.tensor([0.9, 0.8]))
        told = {text.get_text(): text.get_verticalalignment() for text in panel.texts}
        assert told == {"0.90": "top", "0.80": "bottom"}

    def test_a_class_has_its_colour(self) -> None:
        panel = axes()
        draw_boxes(panel, PICTURE, BOXES, LABELS)
        colours = {
            (*p.get_xy(), to_hex(p.get_edgecolor()).upper())
            for p in panel.patches
            if to_hex(p.get_edgecolor()) != "#000000"
        }
        assert colours == {(5, 6, PALETTE[0]), (10, 10, PALETTE[2]), (0, 0, PALETTE[1])}

    def test_nothing_to_draw(self) -> None:
        panel = axes()
        draw_boxes(panel, PICTURE, *NOTHING)
        assert not panel.patches and len(panel.images) == 1


class TestDetectionGrid:
    def test_rows_and_columns(self) -> None:
        truth, found = (BOXES, LABELS, None), (BOXES, LABELS, SCORES)
        columns = {"ground truth": [truth, truth], "student": [found, NOTHING]}
        drawing = detection_grid([PICTURE, PICTURE], columns, ("cat", "dog", "bird"))
        assert len(drawing.axes) == 4
        assert [panel.get_title() for panel in drawing.axes] == ["ground truth", "student", "", ""]
        counts = [len(extents(panel)) for panel in drawing.axes]
        assert counts == [3, 2, 3, 0]
        (legend,) = drawing.legends
        assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "bird"]
        assert [line.get_color() for line in legend.get_lines()] == list(PALETTE[:3])

    def test_no_detection_at_all(self) -> None:
        drawing = detection_grid([PICTURE], {"student": [NOTHING]}, ("cat",))
        drawing.draw_without_rendering()
        assert not drawing.axes[0].patches


def test_colours_repeat() -> None:
    assert len(set(PALETTE)) == len(PALETTE)
    assert colour(len(PALETTE)) == colour(0)

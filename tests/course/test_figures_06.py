"""What the figure of pictures with boxes shows."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.patches import Rectangle

from bckd.course.figures_06 import box_rows

PICTURE = np.zeros((6, 8, 3), dtype=np.uint8)
BOXES = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 5.0, 4.0]])
LABELS = torch.tensor([0, 1])


def _boxes_drawn(axes) -> int:
    """Boxes; each is a dark line with a coloured one on it."""
    return sum(isinstance(patch, Rectangle) for patch in axes.patches) // 2


def test_a_column_a_picture_and_a_row_a_source() -> None:
    rows = {
        "annotated": [(BOXES, LABELS, None), (BOXES[:1], LABELS[:1], None)],
        "student": [(BOXES, LABELS, torch.tensor([0.9, 0.2])), (BOXES[:0], LABELS[:0], None)],
    }
    drawing = box_rows([PICTURE, PICTURE], rows, ["bolt", "nut"])
    assert [_boxes_drawn(axes) for axes in drawing.axes] == [2, 1, 1, 0]
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["annotated", "", "student", ""]
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == ["bolt", "nut"]

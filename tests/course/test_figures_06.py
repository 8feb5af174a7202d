"""What the figures of pictures with boxes and of a report's intervals show."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.patches import Rectangle

from bckd.course.figures_06 import box_rows, intervals
from bckd.evaluation.resampling import Interval

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


def test_intervals_of_every_row_and_detector_in_percent() -> None:
    ap = {
        "teacher": {"all": Interval(0.6, 0.5, 0.7), "bolt": Interval(0.8, 0.7, 0.9)},
        "student": {"all": Interval(0.4, 0.3, 0.5), "bolt": Interval(None, None, None)},
    }
    less = {"all": Interval(-0.2, -0.3, 0.1), "bolt": Interval(0.1, 0.0, 0.2)}
    drawing = intervals(ap, less, "student less teacher")
    left, right = drawing.axes
    ends = [
        x.get_xdata() for x in left.lines if len(x.get_xdata()) == 2 and x.get_marker() == "None"
    ]
    assert [[round(float(x)) for x in pair] for pair in ends] == [[50, 70], [70, 90], [30, 50]]
    (teacher, student) = (x for x in left.lines if x.get_marker() == "o")
    assert list(teacher.get_xdata()) == [60, 80] and np.isnan(student.get_xdata()[1])
    assert [text.get_text() for text in left.get_yticklabels()] == ["all", "bolt"]
    assert [x.get_text() for x in drawing.legends[0].get_texts()] == ["teacher", "student"]
    (found,) = (x for x in right.lines if x.get_marker() == "o")
    assert list(found.get_xdata()) == [-20, 10]
    assert [list(x.get_xdata()) for x in right.lines if len(set(x.get_xdata())) == 1] == [[0, 0]]

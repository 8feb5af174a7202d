"""Figure of the notebook on a reader's own data: pictures with boxes, in one row a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from bckd.viz.detections import draw_boxes
from bckd.viz.style import colour, figure

Boxes = tuple[Tensor, Tensor, Tensor | None]  # boxes (D, 4), labels (D,), scores (D,)
WIDTH = 7.6  # inches: noisy pictures make large files


def box_rows(
    pictures: Sequence[np.ndarray],
    rows: dict[str, Sequence[Boxes]],
    class_names: Sequence[str],
    threshold: float = 0.3,
) -> Figure:
    """One column a picture, one row a source of boxes (annotations, detectors).

    Args:
        pictures: (H, W, 3) uint8 each.
        rows: by title, the boxes of every picture; scores are None for annotations.
        class_names: for the legend.
        threshold: detections below are not drawn.
    """
    height, width = pictures[0].shape[:2]
    panel = WIDTH / len(pictures)
    drawing = figure(WIDTH, panel * height / width * len(rows) + 0.6)
    grid = drawing.subplots(len(rows), len(pictures), squeeze=False)
    for axes_of_row, (title, found) in zip(grid, rows.items(), strict=True):
        for axes, picture, boxes in zip(axes_of_row, pictures, found, strict=True):
            draw_boxes(axes, picture, *boxes, threshold)
        axes_of_row[0].set_title(title, fontsize=9, loc="left")
    handles = [
        Line2D([], [], color=colour(index), linewidth=2.5, label=name)
        for index, name in enumerate(class_names)
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    return drawing

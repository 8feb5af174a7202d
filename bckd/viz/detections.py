"""Images with boxes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.viz.style import colour, figure

# Boxes, labels and scores of an image, as `draw_boxes` takes them.
Boxes = tuple[Tensor, Tensor, Tensor | None]


def draw_boxes(
    axes: Axes,
    picture: np.ndarray,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor | None = None,
    threshold: float = 0.3,
) -> None:
    """Draw a picture and the boxes on it, coloured by class.

    Args:
        picture: (H, W, 3) uint8.
        boxes: (D, 4) xyxy pixels of the picture.
        labels: (D,) class index.
        scores: (D,) in 0..1, or None for ground truth; lower than `threshold` is not drawn.
    """
    height, width, _ = picture.shape
    # A box of the whole picture is (0, 0, width, height): the first pixel begins at 0.
    axes.imshow(picture, interpolation="nearest", extent=(0, width, height, 0))
    axes.set_axis_off()
    found = list(enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)))
    for n, (box, label) in reversed(found):  # detections come best first: the best lies on top
        if scores is not None and scores[n] < threshold:
            continue
        x, y, right, bottom = box
        for line, edge in ((2.6, "black"), (1.4, colour(label))):
            axes.add_patch(
                Rectangle((x, y), right - x, bottom - y, fill=False, edgecolor=edge, linewidth=line)
            )
        if scores is not None:
            # Above the box, or just inside it where the picture ends.
            axes.text(
                x,
                max(y, 0),
                f"{scores[n]:.2f}",
                fontsize=6,
                color="white",
                verticalalignment="top" if y < 0.08 * height else "bottom",
                bbox={"facecolor": "black", "alpha": 0.65, "pad": 0.6, "linewidth": 0},
                clip_on=True,
            )


def detection_grid(
    pictures: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[Boxes]],
    class_names: Sequence[str],
    threshold: float = 0.3,
) -> Figure:
    """One row a picture, one column a source of boxes (ground truth, teacher, students).

    Args:
        pictures: (H, W, 3) uint8 each.
        columns: by title, (boxes, labels, scores) for every picture.
        class_names: for the legend.
    """
    side = min(2.35, 9.5 / len(columns))
    drawing = figure(side * len(columns), (side + 0.05) * len(pictures) + 0.5)
    grid = drawing.subplots(len(pictures), len(columns), squeeze=False)
    for column, (title, found) in enumerate(columns.items()):
        grid[0, column].set_title(title, fontsize=9)
        for row, (boxes, labels, scores) in enumerate(found):
            draw_boxes(grid[row, column], pictures[row], boxes, labels, scores, threshold)
    handles = [
        Line2D([], [], color=colour(index), linewidth=2, label=name)
        for index, name in enumerate(class_names)
    ]
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8
    )
    return drawing

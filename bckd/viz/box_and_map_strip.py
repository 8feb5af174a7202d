"""The same pictures as several detectors see them: boxes, and the score map beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bckd.structures import Detections, GroundTruth
from bckd.viz.detections import draw_boxes
from bckd.viz.style import SCORE_COLOURS, colour, figure

PANEL = 1.3  # inches, side of one picture
GAP = 0.12  # of a panel, between one detector and the next


def box_and_map_strip(
    pictures: Sequence[np.ndarray],
    truth: GroundTruth,
    detections: Mapping[str, Sequence[Detections]],
    score_maps: Mapping[str, Sequence[np.ndarray]],
    class_names: Sequence[str],
    threshold: float = 0.3,
) -> Figure:
    """One row a picture: its objects, then of each detector its boxes and its score map.

    All maps share the scale 0..1.

    Args:
        pictures: (H, W, 3) uint8 each.
        truth: of the pictures, in their pixels.
        detections: by the detector's title, of every picture, in its pixels.
        score_maps: by the same titles, (H, W) in 0..1 of every picture.
        class_names: for the legend.
        threshold: boxes of a lower score are not drawn.
    """
    widths = [1.0] + [GAP, 1.0, 1.0] * len(detections)
    drawing = figure(PANEL * sum(widths) + 0.8, PANEL * len(pictures) + 0.5)
    drawing.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    grid = drawing.add_gridspec(len(pictures), len(widths), width_ratios=widths)
    places = [place for place, width in enumerate(widths) if width == 1]
    panels = [[drawing.add_subplot(grid[row, p]) for p in places] for row in range(len(pictures))]
    maps = []
    for row, (picture, (first, *others)) in enumerate(zip(pictures, panels, strict=True)):
        objects = truth.objects[row]
        draw_boxes(first, picture, truth.boxes[row][objects], truth.labels[row][objects])
        for name, boxes, heat in zip(detections, others[::2], others[1::2], strict=True):
            found = detections[name][row]
            draw_boxes(boxes, picture, found.boxes, found.labels, found.scores, threshold)
            maps += [heat.imshow(score_maps[name][row], cmap=SCORE_COLOURS, vmin=0, vmax=1)]
            heat.set_axis_off()
    titles = ["objects", *(title for name in detections for title in (name, "its scores"))]
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=9)
    bar = drawing.colorbar(maps[0], ax=np.array(panels), fraction=0.012, pad=0.008, aspect=30)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("highest score", fontsize=8)
    handles = [
        Line2D([], [], color=colour(index), linewidth=2.5, label=name)
        for index, name in enumerate(class_names)
    ]
    drawing.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    return drawing

"""Figures of the notebook on a reader's own data: boxes on pictures, intervals of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from bckd.evaluation.resampling import Interval
from bckd.viz.detections import draw_boxes
from bckd.viz.style import ROLE_COLOURS, colour, figure

Boxes = tuple[Tensor, Tensor, Tensor | None]  # boxes (D, 4), labels (D,), scores (D,)
# A teacher, a student that it taught, and that student alone.
HUES = tuple(ROLE_COLOURS[role] for role in ("teacher", "student", "labels"))
WIDTH = 7.6  # inches: noisy pictures make large files


def box_rows(
    pictures: Sequence[np.ndarray],
    rows: dict[str, Sequence[Boxes]],
    class_names: Sequence[str],
    threshold: float = 0.3,
    width: float = WIDTH,
) -> Figure:
    """One column a picture, one row a source of boxes (annotations, detectors).

    Args:
        pictures: (H, W, 3) uint8 each.
        rows: by title, the boxes of every picture; scores are None for annotations.
        class_names: for the legend.
        threshold: detections below are not drawn.
        width: of the figure, in inches.
    """
    sides = pictures[0].shape
    panel = width / len(pictures)
    drawing = figure(width, panel * sides[0] / sides[1] * len(rows) + 0.6)
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


def intervals(
    detectors: Mapping[str, Mapping[str, Interval]], difference: Mapping[str, Interval], title: str
) -> Figure:
    """AP with its intervals, in percent, and beside it by how much two detectors differ.

    Args:
        detectors: teacher, student and its twin, at most; then by row: the classes, or all of them.
        difference: of two of them, by the same rows.
        title: of the difference.
    """
    drawing = figure(WIDTH, 0.5 * len(difference) + 1.4)
    left, right = drawing.subplots(1, 2, sharey=True)
    for number, (name, found) in enumerate(detectors.items()):
        shift = 0.2 * (number - (len(detectors) - 1) / 2)
        _points(left, list(found.values()), shift, HUES[number], name)
    _points(right, list(difference.values()), 0, "black", title)
    right.axvline(0, color="0.5", linewidth=1)
    for axes, words in ((left, "AP"), (right, title)):
        axes.set_title(words, fontsize=9, loc="left")
        axes.tick_params(labelsize=9)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    left.set_yticks(range(len(difference)), difference)
    left.set_ylim(len(difference) - 0.5, -0.5)
    handles, names = left.get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    return drawing


def _points(axes: Axes, found: Sequence[Interval], shift: float, hue: str, name: str) -> None:
    """A point and a line for each interval that is known, one row below the other."""
    for row, one in enumerate(found):
        if one.value is not None and one.low is not None and one.high is not None:
            ends = [100 * one.low, 100 * one.high]
            axes.plot(ends, [row + shift] * 2, color=hue, linewidth=2)
    values = [math.nan if one.value is None else 100 * one.value for one in found]
    rows = [row + shift for row in range(len(found))]
    axes.plot(values, rows, "o", color=hue, markersize=5, label=name)

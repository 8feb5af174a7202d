"""Figures of the course's first notebook: score maps, positive locations and detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bckd.reports.score_maps import overlay, score_map
from bckd.structures import Assignment, Batch, DenseOutput, Detections
from bckd.system.errors import InputError
from bckd.viz.style import SCORE_COLOURS, Style, colour, figure

WIDTH = 9.5  # inches, as the other figures
PICTURE = 2.2  # inches, of a picture in a row of them
LEGEND = 5.4  # inches that a legend of five levels needs
MARKER_SIZES = (3, 5, 8)  # points, from the finest level on; coarser ones take the last
LEVEL_COLOURS = (1, 3, 4, 5, 6)  # of the palette, from the finest level on


def class_maps(
    picture: np.ndarray,
    output: DenseOutput,
    class_names: Sequence[str],
    labels: Sequence[int] | None = None,
    image: int = 0,
) -> Figure:
    """Every score map of one picture: a row a level, a column a class; all on the scale 0..1.

    Args:
        picture: (H, W, 3) uint8, padding included.
        output: of one location a cell.
        class_names: the K names.
        labels: classes to show; by default all.
        image: position of the picture in the batch.

    Raises:
        InputError: no class is to be shown, or there is no such class.
    """
    labels = range(len(class_names)) if labels is None else labels
    _check_labels(labels, class_names)
    levels = output.locations.levels
    height, width = picture.shape[:2]
    side = WIDTH / (len(labels) + 1)
    drawing = figure(WIDTH, (side * height / width + 0.1) * len(levels) + 0.9)
    grid = drawing.subplots(len(levels), len(labels) + 1, squeeze=False)
    shown = None
    for column, label in enumerate(labels, 1):
        grid[0, column].set_title(class_names[label], fontsize=9)
        for axes, values in zip(grid[:, column], score_map(output, image, label), strict=True):
            numbers = values.detach().cpu().numpy()
            shown = axes.imshow(numbers, cmap=SCORE_COLOURS, vmin=0, vmax=1)
    for axes, level in zip(grid[:, 0], levels, strict=True):
        _picture_and_grid(axes, picture, level.stride)
        cells = f"stride {level.stride}\n{level.height} x {level.width}"
        axes.set_ylabel(cells, fontsize=9)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
    place: Style = {"location": "bottom", "aspect": 50, "fraction": 0.04}
    assert shown is not None
    drawing.colorbar(shown, ax=grid.ravel().tolist(), label="sigmoid score", **place)
    return drawing


def positive_locations(
    pictures: Sequence[np.ndarray], batch: Batch, output: DenseOutput, assignment: Assignment
) -> Figure:
    """The annotated boxes of a batch, and a mark at every positive location, a colour a level.

    Args:
        pictures: (H, W, 3) uint8, one for every image of the batch.
        batch: whose boxes are drawn.
        output: whose locations they are.
        assignment: of the batch.
    """
    side = max(PICTURE, LEGEND / len(pictures))
    drawing = figure(side * len(pictures), side + 0.5)
    panels = drawing.subplots(1, len(pictures), squeeze=False)[0]
    locations, truth = output.locations, batch.ground_truth
    for number, (axes, picture) in enumerate(zip(panels, pictures, strict=True)):
        _show(axes, picture)
        for box in truth.boxes[number][truth.objects[number]].tolist():
            _box(axes, box, "white")
        for place, level in enumerate(locations.levels):
            here = assignment.positive[number] & (locations.strides == level.stride)
            x, y = locations.centres[here].cpu().T
            axes.plot(x, y, **_marker(place))
        axes.set_title(f"{int(assignment.positive[number].sum())} positive", fontsize=9)
    handles = [
        Line2D([], [], **_marker(place), label=f"stride {level.stride}")
        for place, level in enumerate(locations.levels)
    ]
    drawing.legend(handles=handles, loc="outside lower center", **_row(len(handles)))
    return drawing


def pictures_and_scores(pictures: Sequence[np.ndarray], output: DenseOutput) -> Figure:
    """Pictures, and below each the highest score of all classes and levels; on the scale 0..1.

    Args:
        pictures: (H, W, 3) uint8, one for every image of the batch.
        output: of the batch.
    """
    height, width = pictures[0].shape[:2]
    drawing = figure(PICTURE * len(pictures), 2 * PICTURE * height / width + 0.7)
    above, below = drawing.subplots(2, len(pictures), squeeze=False)
    shown = None
    for number, (upper, lower) in enumerate(zip(above, below, strict=True)):
        _show(upper, pictures[number])
        values = overlay(score_map(output, number), (height, width))
        shown = lower.imshow(values, cmap=SCORE_COLOURS, vmin=0, vmax=1)
        lower.set_axis_off()
    place: Style = {"location": "bottom", "aspect": 50, "fraction": 0.04}
    label = "sigmoid score, highest of all classes and levels"
    assert shown is not None
    drawing.colorbar(shown, ax=[*above, *below], label=label, **place)
    return drawing


def named_detections(
    pictures: Sequence[np.ndarray],
    found: Sequence[Detections],
    class_names: Sequence[str],
    threshold: float = 0.3,
) -> Figure:
    """Pictures with the detections on them, each with its class and score.

    Args:
        pictures: (H, W, 3) uint8.
        found: one for every picture.
        threshold: least score that is drawn.
    """
    height, width = pictures[0].shape[:2]
    side = WIDTH / max(len(pictures), 2)
    drawing = figure(side * len(pictures), side * height / width)
    panels = drawing.subplots(1, len(pictures), squeeze=False)[0]
    for axes, picture, detections in zip(panels, pictures, found, strict=True):
        _show(axes, picture)
        kept = detections.scores >= threshold
        rows = zip(
            detections.boxes[kept].tolist(),
            detections.labels[kept].tolist(),
            detections.scores[kept].tolist(),
            strict=True,
        )
        for place, (box, label, score) in enumerate(rows):
            _box(axes, box, colour(place))
            style = {"facecolor": "black", "alpha": 0.7, "pad": 0.8, "linewidth": 0}
            text = f"{class_names[label]} {score:.2f}"
            # At the box's left edge, or at its right one where the text would leave the picture.
            late = box[0] > 0.6 * width
            x, align = (min(box[2], width), "right") if late else (max(box[0], 0), "left")
            # Above the box, or just inside it where the picture ends.
            vertical = "top" if box[1] < 0.06 * height else "bottom"
            anchor = {"horizontalalignment": align, "verticalalignment": vertical}
            axes.text(x, max(box[1], 0), text, fontsize=7, color="white", bbox=style, **anchor)
    return drawing


def _show(axes: Axes, picture: np.ndarray) -> None:
    """The picture, filling its panel whatever is drawn on it later."""
    height, width = picture.shape[:2]
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _box(axes: Axes, box: Sequence[float], edge: str) -> None:
    left, top, right, bottom = box
    for line, width in (("black", 2.6), (edge, 1.4)):
        style: Style = {"fill": False, "edgecolor": line, "linewidth": width}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))


def _check_labels(labels: Sequence[int], class_names: Sequence[str]) -> None:
    if not len(labels):
        raise InputError("labels is empty; expected at least one class to show")
    for label in labels:
        if not 0 <= label < len(class_names):
            raise InputError(f"label {label} names no class; expected 0 to {len(class_names) - 1}")


def _picture_and_grid(axes: Axes, picture: np.ndarray, stride: int) -> None:
    """The picture, and the borders of a level's cells."""
    axes.imshow(picture)
    height, width = picture.shape[:2]
    style: Style = {
        "color": "white",
        "linewidth": 0.5,
        "alpha": 0.6 if width / stride <= 20 else 0.25,
    }
    axes.vlines(np.arange(stride, width, stride) - 0.5, -0.5, height - 0.5, **style)
    axes.hlines(np.arange(stride, height, stride) - 0.5, -0.5, width - 0.5, **style)


def _row(count: int) -> Style:
    """A legend of so many entries in one row."""
    return {"ncols": count, "fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.2}


def _marker(place: int) -> Style:
    """How the positives of the level at `place` look."""
    return {
        "linestyle": "none",
        "marker": "o",
        "color": colour(LEVEL_COLOURS[place % len(LEVEL_COLOURS)]),
        "markeredgecolor": "black",
        "markeredgewidth": 0.6,
        "markersize": MARKER_SIZES[min(place, len(MARKER_SIZES) - 1)],
    }

"""What the explorers of maps draw, as matplotlib figures for pages that run no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.picture_outputs import (
    Kind,
    PictureOutputs,
    Protocol,
    checked_ground_truth,
    compared_outputs,
)
from bckd.viz.replay_curves import Curves, check_replay, value_at
from bckd.viz.replay_frames import found_on, frames_of
from bckd.viz.roles import COLOURS, roles_of
from bckd.viz.style import DIFFERENCE_COLOURS, PALETTE, SCORE_COLOURS, Style, figure

# Detectors by their place: a colour and, for those who see colours differently, a line.
MODEL_COLOURS = (PALETTE[0], PALETTE[5], PALETTE[2], PALETTE[3])
MODEL_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (8, 2, 2, 2)))
REPLAY_REACH = 0.5  # score of the last colour of a replay, as in the explorer: early maps are faint
WIDTH = 9.5  # inches, as the other figures


def score_map_panel(
    picture: np.ndarray,
    outputs: dict[str, DenseOutput],
    class_names: Sequence[str],
    ground_truth: tuple[Tensor, Tensor],
    *,
    image: int = 0,
) -> Figure:
    """Maps of one picture, a column a detector, with one cell of the background marked in all.

    The rows are sigmoid scores, softmax scores, and under the picture's own the differences of the
    students' sigmoid scores to the teacher's; the highest of all classes and levels, on scales
    from 0 to 1. The cell is that of `PictureOutputs.background_location`, with its value above.

    Args:
        picture, outputs, class_names, image: as `compared_outputs` takes them.
        ground_truth: boxes (G, 4) and labels (G,).

    Raises:
        InputError: input that does not fit together.
    """
    pictured = compared_outputs(picture, outputs, class_names, image)
    cell = pictured.background_location()
    level, row, column = pictured.cell(cell)
    corners = np.array([column, row, column + 1, row + 1]) * level.stride
    panel = _panel_height(pictured, len(outputs)) + 0.3
    drawing = figure(WIDTH, 3 * panel + 0.7)
    grid = drawing.subplots(3, len(outputs), squeeze=False)
    views: list[tuple[Kind, Protocol, str]] = [
        ("score", "sigmoid", "sigmoid score"),
        ("score", "softmax", "softmax score"),
        ("difference", "sigmoid", "$|p_t - p_s|$"),
    ]
    for panels, (kind, protocol, words) in zip(grid, views, strict=True):
        for axes, name in zip(panels, pictured.names, strict=True):
            if kind == "difference" and name == pictured.names[0]:
                _picture(axes, pictured)
                axes.set_title("image and annotated boxes", fontsize=9)
                for box in checked_ground_truth(ground_truth, class_names)[0]:
                    _box(axes, box, "white", MODEL_DASHES[1])
            else:
                values = pictured.values(kind, name, protocol)
                colours = SCORE_COLOURS if kind == "score" else DIFFERENCE_COLOURS
                axes.imshow(pictured.over_picture(values), cmap=colours, vmin=0, vmax=1)
                axes.set_title(f"{name}: {words}, {values[cell]:.2f} at the cell", fontsize=8)
                axes.set_axis_off()
            _box(axes, corners.tolist(), "white", "solid")
    _colour_bar(drawing, grid[2, :1], SCORE_COLOURS, "score")
    _colour_bar(drawing, grid[2, 1:], DIFFERENCE_COLOURS, "difference of scores to the teacher's")
    return drawing


def location_panel(
    picture: np.ndarray,
    outputs: dict[str, DenseOutput],
    class_names: Sequence[str],
    point: tuple[float, float],
    *,
    image: int = 0,
    stride: int | None = None,
) -> Figure:
    """One location: its cell and every detector's box on the picture, and its top classes.

    Args:
        picture, outputs, class_names, image: as `compared_outputs` takes them.
        point: x and y in pixels.
        stride: level of the location; None for the one on which the first detector's score is
            highest there.

    Raises:
        InputError: input that does not fit together, no such level, a point outside the picture.
    """
    pictured = compared_outputs(picture, outputs, class_names, image)
    scores = pictured.values("score", pictured.names[0])
    location = pictured.at_point(scores, point, pictured.level(stride))
    drawing = figure(WIDTH, 3.6)
    left, *panels = drawing.subplots(1, 1 + len(get_args(Protocol)), width_ratios=(1.1, 1, 1))
    _picture(left, pictured)
    level, row, column = pictured.cell(location)
    left.set_title(f"stride {level.stride}, row {row}, column {column}", fontsize=9)
    corner = np.array([column, row, column + 1, row + 1])
    _box(left, (corner * level.stride).tolist(), "white", "solid")
    for name, colour, dashes in zip(outputs, MODEL_COLOURS, MODEL_DASHES, strict=False):
        _box(left, pictured.boxes[name][location], colour, dashes)
    for axes, protocol in zip(panels, get_args(Protocol), strict=True):
        _class_bars(axes, pictured, location, protocol)
    panels[1].tick_params(labelleft=False)
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=2.5, label=name)
        for name, colour, dashes in zip(outputs, MODEL_COLOURS, MODEL_DASHES, strict=False)
    ]
    place: Style = {"loc": "outside lower center", "ncols": len(handles), "handlelength": 3}
    drawing.legend(handles=handles, fontsize=9, **place)
    return drawing


def replay_strip(
    picture: np.ndarray,
    steps: Sequence[int],
    teacher: DenseOutput,
    students: Mapping[str, Sequence[DenseOutput]],
    class_names: Sequence[str],
    ground_truth: tuple[Tensor, Tensor],
    curves: Curves,
    shown: Sequence[int],
) -> Figure:
    """Score maps along several trainings, a row a student, and curves with these steps marked.

    The last column has the teacher's map and the picture. Over each map stand the objects that
    have a box of a score of .3 or more, and those with the right name.

    Args:
        picture, steps, teacher, students, class_names, ground_truth, curves: as
            `bckd.viz.explorers.replay.TrainingReplay` takes them.
        shown: the steps to draw, of those of the frames.

    Raises:
        InputError: input that does not fit together, or no frame of a step.
    """
    check_replay(steps, students, curves)
    for step in shown:
        if step not in steps:
            listed = ", ".join(str(each) for each in steps)
            raise InputError(f"there is no frame of step {step}; expected one of {listed}")
    frames = frames_of(picture, teacher, students, class_names)
    boxes, labels = checked_ground_truth(ground_truth, class_names)
    objects = torch.from_numpy(boxes), torch.tensor(labels)
    map_height = len(students) * (_panel_height(frames.pictured, len(shown) + 1) + 0.3) + 0.6
    drawing = figure(WIDTH, map_height + (2.1 if curves else 0))
    top, bottom = drawing, None
    if curves:
        top, bottom = drawing.subfigures(2, 1, height_ratios=(map_height, 2.1), squeeze=False).flat
    grid = top.subplots(len(students), len(shown) + 1, squeeze=False)

    def draw(axes: Axes, name: str, frame: int, words: str) -> None:
        found = found_on(frames.detections[name][frame], *objects)
        values = frames.pictured.over_picture(frames.values(name, frame))
        axes.imshow(values, cmap=SCORE_COLOURS, vmin=0, vmax=REPLAY_REACH)
        axes.set_title(f"{words}: {found.found}, {found.named}", fontsize=8)

    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, name in zip(grid, students, strict=True):
        row[0].set_ylabel(name, fontsize=9)
        for axes, step in zip(row, shown, strict=False):
            draw(axes, name, steps.index(step), f"step {step}")
    draw(grid[0, -1], "teacher", 0, "teacher")
    for axes in grid[1:, -1]:
        axes.set_axis_off()
    if len(students) > 1:
        _picture(grid[1, -1], frames.pictured)
        for box in boxes:
            _box(grid[1, -1], box, "white", MODEL_DASHES[1])
    words = f"highest score of all classes and levels; above: of {len(boxes)} objects, found, named"
    _colour_bar(top, grid, SCORE_COLOURS, words, REPLAY_REACH)
    if bottom is not None:
        _curves(bottom, curves, shown, ["teacher", *students])
    return drawing


def _panel_height(pictured: PictureOutputs, columns: int) -> float:
    """Inches of a panel of the picture's shape, so many of them a row."""
    height, width = pictured.picture.shape[:2]
    return WIDTH / columns * height / width


def _picture(axes: Axes, pictured: PictureOutputs) -> None:
    axes.imshow(pictured.picture, interpolation="nearest")
    axes.set_title("image", fontsize=8)
    axes.set_axis_off()


def _box(axes: Axes, box: Sequence[float], colour: str, dashes: Any) -> None:
    """A line of this colour with a dark or light one behind it, to be seen on any picture."""
    x, y, right, bottom = box
    behind = "black" if colour == "white" else "white"
    for edge, width, line in ((behind, 3.0, "solid"), (colour, 1.5, dashes)):
        style: Style = {"fill": False, "edgecolor": edge, "linewidth": width, "linestyle": line}
        axes.add_patch(Rectangle((x, y), right - x, bottom - y, **style))


def _colour_bar(
    drawing: Figure | SubFigure, panels: np.ndarray, c: Colormap, words: str, reach: float = 1
) -> None:
    place: Style = {"location": "bottom", "aspect": 40, "shrink": 0.9, "pad": 0.02}
    scale = ScalarMappable(Normalize(0, reach), c)
    bar = drawing.colorbar(scale, ax=panels.ravel().tolist(), **place)
    bar.set_label(words, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _class_bars(axes: Axes, pictured: PictureOutputs, location: int, protocol: Protocol) -> None:
    """The top classes' scores, a group of bars a class, a bar a detector."""
    labels = pictured.top_classes(location)
    width = 0.8 / len(pictured.names)
    for place, name in enumerate(pictured.names):
        scores = pictured.scores(name, protocol)[location][labels]
        y = np.arange(len(labels)) + (place - (len(pictured.names) - 1) / 2) * width
        bars = axes.barh(y, scores, 0.9 * width, color=MODEL_COLOURS[place])
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axes.set_yticks(range(len(labels)), [pictured.class_names[label] for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    axes.set_title(f"{protocol} scores", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(
    drawing: Figure | SubFigure, curves: Curves, steps: Sequence[int], names: Sequence[str]
) -> None:
    """A panel a title, a line a detector, over the root of the step: early ones get room."""
    colours = dict(zip(names, (COLOURS[role] for role in roles_of(names)), strict=True))
    last = max(step for lines in curves.values() for curve in lines.values() for step, _ in curve)
    panels = drawing.subplots(1, len(curves), squeeze=False).ravel()
    for axes, (title, lines) in zip(panels, curves.items(), strict=True):
        for name, curve in lines.items():
            axes.plot(*zip(*curve, strict=True), color=colours[name], linewidth=1.5, label=name)
            known = {s: value_at(curve, s) for s in steps if value_at(curve, s) is not None}
            axes.plot(known.keys(), known.values(), "o", color=colours[name], markersize=4)
        axes.set_xscale("function", functions=(np.sqrt, np.square))
        axes.set_xlim(0, last)
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step (scale of its root)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)

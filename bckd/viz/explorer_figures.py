"""What the explorers of maps draw, as matplotlib figures for pages that run no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.structures import DenseOutput
from bckd.viz.picture_outputs import (
    Kind,
    PictureOutputs,
    Protocol,
    checked_ground_truth,
    compared_outputs,
    outputs_of_picture,
)
from bckd.viz.replay_curves import Curves, check_replay, value_at
from bckd.viz.style import DIFFERENCE_COLOURS, PALETTE, SCORE_COLOURS, Style, figure

# The teacher and two students by their place: a colour and, for those who see colours
# differently, a line. The explorers draw the same.
MODEL_COLOURS = (PALETTE[0], PALETTE[5], PALETTE[2])
MODEL_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
STRIP_STEPS = 6
WIDTH = 9.5  # inches, as the other figures


def score_map_panel(
    picture: np.ndarray,
    outputs: dict[str, DenseOutput],
    class_names: Sequence[str],
    ground_truth: tuple[Tensor, Tensor] | None = None,
    *,
    image: int = 0,
    class_name: str | None = None,
    stride: int | None = None,
) -> Figure:
    """Maps of one picture: a row a detector, a column each thing that an explorer can show.

    Scores under both protocols; for a student also its difference to the first detector (the
    teacher) under both, and the weight of L_loc. All scales are 0..1.

    Args:
        picture, outputs, class_names, image: as `compared_outputs` takes them.
        ground_truth: boxes (G, 4) and labels (G,).
        class_name: one class, or None for the highest of all classes.
        stride: one level's, or None for the highest of all levels.

    Raises:
        InputError: input that does not fit together, no such class or level.
    """
    pictured = compared_outputs(picture, outputs, class_names, image)
    label, level = pictured.label(class_name), pictured.level(stride)
    protocols = get_args(Protocol)
    columns: list[tuple[Kind, Protocol]] = [("score", protocol) for protocol in protocols]
    columns += [("difference", protocol) for protocol in protocols]
    columns.append(("weight", "sigmoid"))
    panel = _panel_height(pictured, len(columns)) + 0.4
    drawing = figure(WIDTH, panel * len(outputs) + 0.9)
    grid = drawing.subplots(len(outputs), len(columns), squeeze=False)
    for row, name in zip(grid, pictured.names, strict=True):
        for axes, (kind, protocol) in zip(row, columns, strict=True):
            axes.set_axis_off()
            if kind == "score" or name != pictured.names[0]:
                values = pictured.values(kind, name, protocol, label)
                colours = SCORE_COLOURS if kind == "score" else DIFFERENCE_COLOURS
                axes.imshow(pictured.over_picture(values, level), cmap=colours, vmin=0, vmax=1)
                axes.set_title(f"{name}\n{_words(kind, protocol)}", fontsize=8)
    _picture(grid[0, 2], pictured)
    if ground_truth is not None:
        grid[0, 2].set_title("image and\nground truth", fontsize=8)
        for box in checked_ground_truth(ground_truth, class_names)[0]:
            _box(grid[0, 2], box, "white", MODEL_DASHES[1])
    which = f"{class_name or 'highest of all classes'}, {_level_words(stride)}"
    _colour_bar(drawing, grid[:, :2], SCORE_COLOURS, f"score\n({which})")
    words = f"difference of scores, weight of L_loc\n({which}; weight: of all classes)"
    _colour_bar(drawing, grid[:, 2:], DIFFERENCE_COLOURS, words)
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
    outputs: Sequence[DenseOutput],
    curves: Curves,
    class_names: Sequence[str],
    *,
    image: int = 0,
    class_name: str | None = None,
    stride: int | None = None,
) -> Figure:
    """Score maps of checkpoints along a run, and its curves with these steps marked.

    Args:
        picture, class_names, image: as `outputs_of_picture` takes them.
        steps, outputs: of the checkpoints, by step; of more than six, six are shown, the first and
            the last among them and the others as evenly between as there are any.
        curves: by title, (step, value) pairs; may be empty.
        class_name: one class, or None for the highest of all classes.
        stride: one level's, or None for the highest of all levels.

    Raises:
        InputError: input that does not fit together, no such class or level.
    """
    check_replay(steps, outputs, curves)
    named = {f"step {step}": output for step, output in zip(steps, outputs, strict=True)}
    pictured = outputs_of_picture(picture, named, class_names, image)
    label, level = pictured.label(class_name), pictured.level(stride)
    places = np.linspace(0, len(steps) - 1, min(STRIP_STEPS, len(steps))).round().astype(int)
    map_height = _panel_height(pictured, STRIP_STEPS) + 1.1
    curve_rows = -(-len(curves) // 3)
    drawing = figure(WIDTH, map_height + 1.9 * curve_rows)
    top, bottom = drawing, None
    if curves:
        ratios = (map_height, 1.9 * curve_rows)
        top, bottom = drawing.subfigures(2, 1, height_ratios=ratios, squeeze=False).flat
    grid = top.subplots(1, STRIP_STEPS)
    for axes in grid:
        axes.set_axis_off()
    for axes, place in zip(grid, places, strict=False):
        name = pictured.names[place]
        values = pictured.values("score", name, label=label)
        axes.imshow(pictured.over_picture(values, level), cmap=SCORE_COLOURS, vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
    words = f"score ({class_name or 'highest of all classes'}, {_level_words(stride)})"
    _colour_bar(top, grid, SCORE_COLOURS, words)
    if bottom is not None:
        _curves(bottom, curves, [steps[place] for place in places])
    return drawing


def _words(kind: Kind, protocol: Protocol) -> str:
    match kind:
        case "score":
            return f"{protocol} score"
        case "difference":
            return f"$|p_t - p_s|$, {protocol}"
    return "weight of L_loc"


def _level_words(stride: int | None) -> str:
    return "highest of all levels" if stride is None else f"level of stride {stride}"


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


def _colour_bar(drawing: Figure | SubFigure, panels: np.ndarray, c: Colormap, words: str) -> None:
    place: Style = {"location": "bottom", "aspect": 40, "shrink": 0.9, "pad": 0.02}
    scale = ScalarMappable(Normalize(0, 1), c)
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


def _curves(drawing: Figure | SubFigure, curves: Curves, steps: Sequence[int]) -> None:
    panels = drawing.subplots(-(-len(curves) // 3), 3, squeeze=False).ravel()
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    for axes, (title, curve) in zip(panels, curves.items(), strict=False):
        axes.plot(*zip(*curve, strict=True), color=PALETTE[0], linewidth=1.5)
        known = {step: value_at(curve, step) for step in steps if value_at(curve, step) is not None}
        axes.plot(known.keys(), known.values(), "o", color=PALETTE[5], markersize=5)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)

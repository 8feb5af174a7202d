"""What published methods compare, in rows of maps and in bars of one location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from bckd.system.errors import InputError
from bckd.viz.methods import SPARE_COLOURS, WIDTH
from bckd.viz.style import DIFFERENCE_COLOURS, PALETTE, ROLE_COLOURS, SCORE_COLOURS, Style, figure

Kind = Literal["picture", "compared", "pull"]
SIDE = 1.3  # inches of a panel
KINDS = ("features", "responses", "relations")
KIND_COLOURS = dict(zip(KINDS, (SPARE_COLOURS[0], SPARE_COLOURS[1], SPARE_COLOURS[4]), strict=True))


@dataclass(frozen=True)
class Panel:
    """One map over the picture.

    Attributes:
        values: (h, w) of cells, stretched over the picture; or (H, W, 3) uint8.
        kind: "compared" maps of a row share their scale, a "pull" has its own.
    """

    title: str
    values: np.ndarray
    kind: Kind = "compared"


def panel_rows(
    rows: Mapping[str, Sequence[Panel]],
    boxes: np.ndarray,
    point: tuple[float, float] | None,
    size: int,
) -> Figure:
    """One row a method, its name on the left.

    Args:
        rows: by name of the method, as many panels each.
        boxes: (G, 4) xyxy in pixels, outlined.
        point: x and y in pixels, ringed; None: no ring.
        size: side of the square picture, in pixels.

    Raises:
        InputError: the rows have different numbers of panels, or there is none.
    """
    counts = {len(row) for row in rows.values()}
    if len(counts) != 1:
        raise InputError(f"the rows have {sorted(counts)} panels; expected one number for all")
    columns = counts.pop()
    drawing = figure(SIDE * columns + 0.5, (SIDE + 0.28) * len(rows))
    grid = drawing.subplots(len(rows), columns, squeeze=False)
    for line, (name, row) in zip(grid, rows.items(), strict=True):
        shared = [x.values for x in row if x.kind == "compared"]
        limits = _limits(shared) if shared else (0.0, 1.0)
        for axes, panel in zip(line, row, strict=True):
            _draw(axes, panel, limits, size)
            _outline(axes, boxes, point)
        line[0].set_ylabel(name, fontsize=9)
    return drawing


def location_bars(
    panels: Mapping[str, tuple[Sequence[float], Sequence[float]]], labels: Sequence[str], below: str
) -> Figure:
    """Teacher's and student's values beside each other, a panel a reading.

    Args:
        panels: by title, one value a label of the teacher and of the student.
        labels: below the bars.
        below: what the labels are.
    """
    drawing = figure(0.75 * WIDTH, 2.4)
    x = np.arange(len(labels))
    for axes, (title, pair) in zip(
        np.atleast_1d(drawing.subplots(1, len(panels))), panels.items(), strict=True
    ):
        for offset, role, values in zip((-0.2, 0.2), ("teacher", "student"), pair, strict=True):
            axes.bar(x + offset, values, 0.4, color=ROLE_COLOURS[role], label=role)
        axes.set_title(title, fontsize=9)
        upright = max(map(len, labels)) < 4
        axes.set_xticks(
            x, labels, rotation=0 if upright else 40, ha="center" if upright else "right"
        )
        axes.tick_params(labelsize=8)
        axes.set_xlabel(below, fontsize=9)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    handles = axes.get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=2, fontsize=9)
    return drawing


def share_bars(shares: Mapping[str, Mapping[str, float]], alike: float) -> Figure:
    """The part of each method's pull that lies at objects, a bar a method.

    Args:
        shares: by kind ("features", "responses", "relations") and method, 0..1.
        alike: the part of the cells, which a pull that is the same everywhere has; a dashed line.
    """
    rows = [(kind, *item) for kind, of_kind in shares.items() for item in of_kind.items()]
    drawing = figure(0.6 * WIDTH, 0.9 + 0.2 * len(rows))
    axes = drawing.subplots()
    for row, (kind, _, share) in enumerate(rows):
        first = row == 0 or rows[row - 1][0] != kind
        label = kind if first else None
        bar = axes.barh(row, 100 * share, 0.75, color=KIND_COLOURS[kind], label=label)
        # Legible where the dashed line passes.
        for text in axes.bar_label(bar, fmt="%.0f", fontsize=8, padding=2):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    axes.axvline(100 * alike, color="black", linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [name for _, name, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the pull at objects' cells (dashed: the same everywhere)", fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    drawing.legend(loc="outside upper center", ncols=3, fontsize=9)
    return drawing


def _limits(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([x.ravel() for x in maps])
    return float(np.nanmin(values)), float(np.nanmax(values))


def _draw(axes: Axes, panel: Panel, limits: tuple[float, float], size: int) -> None:
    extent = (0.0, float(size), float(size), 0.0)
    if panel.kind == "picture":
        axes.imshow(panel.values, extent=extent)
    elif panel.kind == "compared":
        low, high = limits
        style: Style = {"cmap": SCORE_COLOURS, "vmin": low, "vmax": high}
        axes.imshow(panel.values, extent=extent, interpolation="nearest", **style)
    else:
        style = {"cmap": DIFFERENCE_COLOURS, "vmin": 0, "interpolation": "nearest"}
        axes.imshow(panel.values, extent=extent, **style)
    axes.set_title(panel.title, fontsize=8)
    axes.set_facecolor("0.6")  # where a map has no value
    axes.set_xticks([])
    axes.set_yticks([])


def _outline(axes: Axes, boxes: np.ndarray, point: tuple[float, float] | None) -> None:
    for left, top, right, bottom in boxes:
        corner, sides = (left, top), (right - left, bottom - top)
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor="white", linewidth=1))
    if point is None:
        return
    for edge, width in (("white", 4), (PALETTE[5], 2)):
        axes.add_patch(Circle(point, 6, fill=False, edgecolor=edge, linewidth=width))

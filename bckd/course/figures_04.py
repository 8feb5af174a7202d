"""Figures of the notebook on boxes: side distributions, the IoU family, where L_loc pulls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.geometry import IoUKind, box_similarity
from bckd.reports.score_maps import overlay
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.style import DIFFERENCE_COLOURS, Style, colour, figure

WIDTH = 9.5  # inches, as the other figures
KINDS: tuple[IoUKind, ...] = get_args(IoUKind)
NAMES: dict[IoUKind, str] = {"iou": "IoU", "giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}
COLOURS = dict(zip(KINDS, (colour(7), colour(0), colour(5), colour(2)), strict=True))
DASHES = dict(zip(KINDS, ("-", "--", "-.", ":"), strict=True))
SIDES = ("left", "top", "right", "bottom")
Path = Callable[[Tensor], Tensor]  # (P,) positions to (P, 4) boxes


def side_distributions(
    box_logits: dict[str, Tensor], temperatures: Sequence[float] = (1.0,)
) -> Figure:
    """The four side distributions of one location: a row a temperature, a colour a detector.

    At temperature 1 a triangle marks each distribution's mean, the side's distance; a softened
    distribution's mean is none. The colours of the first three detectors are the explorers'.

    Args:
        box_logits: by detector, (4, bins).
        temperatures: by which the logits are divided.

    Raises:
        InputError: the shapes differ or are not (4, bins).
    """
    shapes = {tuple(logits.shape) for logits in box_logits.values()}
    if len(shapes) != 1 or next(iter(shapes))[0] != 4:
        raise InputError(f"box logits have the shapes {sorted(shapes)}; expected one, (4, bins)")
    drawing = figure(WIDTH, 0.7 + 1.75 * len(temperatures))
    panels = drawing.subplots(len(temperatures), 4, squeeze=False, sharex=True, sharey="row")
    width = 0.8 / len(box_logits)
    for row, temperature in zip(panels, temperatures, strict=True):
        for place, (name, logits) in enumerate(box_logits.items()):
            shares = (logits.detach() / temperature).softmax(dim=-1).numpy()
            bins = np.arange(shares.shape[-1])
            x = bins + width * (place + 0.5) - 0.4
            for axes, side in zip(row, shares, strict=True):
                own = {"color": colour((0, 5, 2)[place % 3])}
                axes.bar(x, side, width, label=name, **own)
                if temperature == 1:
                    mark = {"marker": "^", "markersize": 8, "clip_on": False, "zorder": 3}
                    axes.plot(side @ bins, 0, **mark, **own)
        row[0].set_ylabel(f"probability, T = {temperature:g}", fontsize=8)
    for axes, side in zip(panels[0], SIDES, strict=True):
        axes.set_title(side, fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("distance, strides", fontsize=8)
    for axes in panels.ravel():
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    handles = panels[0, 0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=len(box_logits), fontsize=9)
    return drawing


def iou_curve(
    path: Path, positions: Tensor, target: Tensor, kind: IoUKind
) -> tuple[np.ndarray, np.ndarray]:
    """1 - u of a box on a path, and its slope along the path.

    Args:
        path: (P,) positions to (P, 4) boxes.
        positions: (P,).
        target: (4,) the box that stays.
        kind: u, as `bckd.geometry.box_similarity` takes it.

    Returns:
        (P,) losses and (P,) derivatives by the position.
    """
    positions = positions.detach().clone().requires_grad_()
    losses = 1 - box_similarity(path(positions), target, kind)
    (slopes,) = torch.autograd.grad(losses.sum(), positions)
    return losses.detach().numpy(), slopes.numpy()


def iou_curves(paths: dict[str, tuple[Path, Tensor]], target: Tensor) -> Figure:
    """Boxes on the move: three of each path above, 1 - u and its slope along the path below.

    Args:
        paths: by title, (P,) positions to (P, 4) boxes, and the positions.
        target: (4,) the box that stays.
    """
    drawing = figure(WIDTH, 6.4)
    grid = drawing.subplots(3, len(paths), squeeze=False, height_ratios=(1, 1.4, 1.4))
    for (sketch, above, below), (title, (path, positions)) in zip(
        grid.T, paths.items(), strict=True
    ):
        _sketch(sketch, path(positions), target)
        sketch.set_title(title, fontsize=9)
        x = positions.numpy()
        for kind in KINDS:
            losses, slopes = iou_curve(path, positions, target, kind)
            style = {"color": COLOURS[kind], "linestyle": DASHES[kind], "linewidth": 2}
            above.plot(x, losses, **style, label=NAMES[kind])
            below.plot(x, slopes, **style)
        below.set_xlabel("position on the path", fontsize=9)
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
    grid[1, 0].set_ylabel("loss, 1 - u")
    grid[2, 0].set_ylabel("slope along the path")
    handles = grid[1, 0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=len(KINDS), fontsize=9)
    return drawing


def descent_curves(panels: dict[str, dict[IoUKind, Sequence[float]]]) -> Figure:
    """Quantities of a box over steps of gradient descent: a panel a quantity, a line a loss.

    Args:
        panels: by name of the quantity and kind of the loss, its value before each step.
    """
    drawing = figure(WIDTH, 3.2)
    grid = drawing.subplots(1, len(panels), squeeze=False).ravel()
    for axes, (title, found) in zip(grid, panels.items(), strict=True):
        for kind, values in found.items():
            style = {"color": COLOURS[kind], "linestyle": DASHES[kind], "linewidth": 2}
            axes.plot(values, **style, label=NAMES[kind])
        axes.set_ylabel(title)
        axes.set_xlabel("step of gradient descent")
        axes.grid(alpha=0.3)
    handles = grid[0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=len(KINDS), fontsize=9)
    return drawing


def place_maps(
    pictures: Sequence[np.ndarray],
    columns: dict[str, Tensor],
    output: DenseOutput,
    label: str = "weight of a location",
) -> Figure:
    """Values of all locations over their pictures: a row a picture, a column a value.

    Of several levels the highest value shows; the scale is 0..1.

    Args:
        pictures: (H, W, 3) uint8, one for every image.
        columns: by title, (N, A).
        output: whose locations these are.
        label: what the values are.
    """
    count = 1 + len(columns)
    side = WIDTH / max(count, 4)
    drawing = figure(side * count, side * len(pictures) + 1.1)
    grid = drawing.subplots(len(pictures), count, squeeze=False)
    for n, (row, picture) in enumerate(zip(grid, pictures, strict=True)):
        row[0].imshow(picture)
        for axes, values in zip(row[1:], columns.values(), strict=True):
            height, width = picture.shape[:2]
            found = overlay(_as_maps(values[n].detach(), output), (height, width))
            axes.imshow(found, cmap=DIFFERENCE_COLOURS, vmin=0, vmax=1)
    for axes, title in zip(grid[0], ("image", *columns), strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid.ravel():
        axes.set_axis_off()
    scale = ScalarMappable(Normalize(0, 1), DIFFERENCE_COLOURS)
    bar: Style = {"location": "bottom", "aspect": 40, "shrink": 0.9, "pad": 0.02}
    drawing.colorbar(scale, ax=grid.ravel().tolist(), label=label, **bar)
    return drawing


def _as_maps(values: Tensor, output: DenseOutput) -> list[Tensor]:
    """One (H, W) map a level; of several anchors a cell the highest."""
    parts = values.float().split(output.locations.counts)
    levels = output.locations.levels
    return [
        part.reshape(level.height, level.width, -1).amax(dim=-1)
        for part, level in zip(parts, levels, strict=True)
    ]


def _sketch(axes: Axes, boxes: Tensor, target: Tensor) -> None:
    """The target filled, the path's first, middle and last box drawn as lines."""
    x, y, right, bottom = target.tolist()
    axes.add_patch(Rectangle((x, y), right - x, bottom - y, color="0.8"))
    for place, dashes in ((0, ":"), (len(boxes) // 2, "--"), (len(boxes) - 1, "-")):
        x, y, right, bottom = boxes[place].tolist()
        style: Style = {"fill": False, "edgecolor": "black", "linestyle": dashes, "linewidth": 1.4}
        axes.add_patch(Rectangle((x, y), right - x, bottom - y, **style))
    axes.margins(0.05)
    axes.autoscale_view()
    axes.invert_yaxis()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()

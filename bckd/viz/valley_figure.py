"""The valley and the bowl as a figure, for pages that run no script."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from bckd.losses import binary_classification, softmax_classification
from bckd.viz.descent import Path, descend
from bckd.viz.protocol_figure import THRESHOLD, check_logits, one_location, one_positive
from bckd.viz.style import ROLE_COLOURS, figure

CELLS = 64  # of a landscape, a side
REACH = 8.0
CONTOURS = (0.1, 0.5, 1, 2, 4, 8)


def loss_landscapes(
    teacher: Sequence[float], reach: float = REACH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both losses over a student's two logits.

    Args:
        teacher: two logits.

    Returns:
        The axis (C,) from -reach to reach, softmax distillation and L_cls (C, C) each; a row is
        a logit of the second class.
    """
    target = one_location(teacher)
    place = one_positive(target)

    def both(logits: Tensor) -> Tensor:
        student = replace(target, cls_logits=logits[None, None])
        softmax = softmax_classification(student, target, place)
        return torch.stack([softmax, binary_classification(student, target, place)])

    axis = torch.linspace(-reach, reach, CELLS + 1, dtype=torch.float64)
    second, first = torch.meshgrid(axis, axis, indexing="ij")
    with warnings.catch_warnings():
        # "There is a performance drop": the divergence is taken point by point, fast enough here.
        warnings.simplefilter("ignore", UserWarning)
        losses = torch.func.vmap(torch.func.vmap(both))(torch.stack([first, second], dim=-1))
    return axis.numpy(), losses[..., 0].numpy(), losses[..., 1].numpy()


def valley_figure(
    teacher: Sequence[float] = (2.0, -2.0),
    student: Sequence[float] = (3.0, 3.0),
    names: Sequence[str] = ("circle", "square"),
) -> Figure:
    """Softmax distillation and L_cls over two logits, two descents from one student, their ends.

    Both copies of the student are drawn in both landscapes, each with a full line where it
    descends. The bars are scores; the line across is `THRESHOLD`.

    Args:
        teacher, student: two logits each, as in `descend`.
        names: of the two classes.

    Raises:
        InputError: the logits differ in length, a number is not finite, or there is not one
            name a class.
    """
    check_logits(teacher, student, names)
    descent = descend(teacher, student)
    axis, softmax, binary = loss_landscapes(teacher)
    drawing = figure(8.6, 3.2)
    valley, bowl, scores = drawing.subplots(1, 3)
    _landscape(valley, axis, softmax, "softmax", "softmax KD: a valley", names)
    _landscape(bowl, axis, binary, "BCKD", "L_cls: a bowl", names)
    valley.axline(teacher, slope=1, color="0.2", linewidth=1, linestyle="--")
    for axes, own in ((valley, "softmax"), (bowl, "BCKD")):
        _path(axes, descent.softmax, "softmax", "s", own == "softmax")
        _path(axes, descent.binary, "BCKD", "^", own == "BCKD")
        axes.plot(*student, "o", color=ROLE_COLOURS["student"], markeredgecolor="white", ms=8)
        axes.plot(
            *teacher, "o", markerfacecolor="none", markeredgecolor=ROLE_COLOURS["teacher"],
            markersize=12, markeredgewidth=3,
        )  # fmt: skip
    owners = {
        "teacher": ("teacher", teacher),
        "student": ("student", student),
        "by softmax KD": ("softmax", descent.softmax[-1]),
        "by L_cls": ("BCKD", descent.binary[-1]),
    }
    for place, (label, (role, logits)) in enumerate(owners.items()):
        heights = torch.tensor(logits, dtype=torch.float64).sigmoid().numpy()
        x = np.arange(len(names)) + 0.2 * (place - 1.5)
        scores.bar(x, heights, width=0.18, color=ROLE_COLOURS[role], label=label)
    scores.axhline(THRESHOLD, color="0.2", linewidth=0.8)
    scores.set_xticks(np.arange(len(names)), names)
    scores.set_ylim(0, 1)
    scores.tick_params(labelsize=8)
    scores.set_ylabel("score at the end", fontsize=9)
    scores.spines[["top", "right"]].set_visible(False)
    scores.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return drawing


def _landscape(
    axes: Axes, axis: np.ndarray, losses: np.ndarray, role: str, title: str, names: Sequence[str]
) -> None:
    """Colours by the root of the loss, so that the floor shows its shape, and contour lines."""
    colours = LinearSegmentedColormap.from_list(role, ["white", ROLE_COLOURS[role]])
    extent = (axis[0], axis[-1], axis[0], axis[-1])
    axes.imshow(
        np.sqrt(losses.clip(0)), origin="lower", extent=extent, cmap=colours, alpha=0.75,
        interpolation="bilinear",
    )  # fmt: skip
    lines = axes.contour(axis, axis, losses, CONTOURS, colors="0.3", linewidths=0.7)
    axes.clabel(lines, CONTOURS[1:], fmt="%g", fontsize=7)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(f"logit of {names[0]}", fontsize=9)
    axes.set_ylabel(f"logit of {names[1]}", fontsize=9)
    axes.set_xticks(np.arange(-8, 9, 4))
    axes.set_yticks(np.arange(-8, 9, 4))
    axes.tick_params(labelsize=8)


def _path(axes: Axes, path: Path, role: str, marker: str, own: bool) -> None:
    points = np.array(path)
    axes.plot(
        *points.T, color=ROLE_COLOURS[role], linewidth=2.5 if own else 1.2,
        linestyle="-" if own else "--", marker=marker, markevery=[-1], markersize=7 if own else 5,
        markeredgecolor="white",
    )  # fmt: skip

"""Figures of the notebook on the binary loss: its weight, its places, its levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bckd.geometry import grid
from bckd.losses import binary_classification
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError
from bckd.viz.style import Style, colour, figure

WIDTH = 9.5  # inches, as the other figures
BETAS = (0.0, 1.0, 2.0)
ENLARGED_BELOW = 0.2  # a teacher's score
BACKGROUND, POSITIVES = "0.62", "0.25"  # greys: the colours are those of roles


def binary_curve(
    target: float, scores: Sequence[float], beta: float = 1.0, detach_weight: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """L_cls of one score and its gradient on the logit, by `bckd.losses.binary_classification`.

    Args:
        target: the teacher's score.
        scores: of the student, P values strictly between 0 and 1.
        beta, detach_weight: as the loss takes them.

    Returns:
        (P,) losses and (P,) gradients; no level is gated and nothing is divided.

    Raises:
        InputError: a score is not strictly between 0 and 1.
    """
    wrong = [p for p in (target, *scores) if not 0 < p < 1]
    if wrong:
        raise InputError(f"a score is {wrong[0]}; expected one strictly between 0 and 1")
    losses, gradients = [], []
    for score in scores:
        student = _one_score(score)
        loss = binary_classification(
            student,
            _one_score(target),
            _ONE,
            beta=beta,
            detach_weight=detach_weight,
            gate_levels=False,
        )
        (gradient,) = torch.autograd.grad(loss, student.cls_logits)
        losses.append(loss.item())
        gradients.append(gradient.item())
    return np.array(losses), np.array(gradients)


def binary_curves(targets: Sequence[float]) -> Figure:
    """Loss and gradient over the student's score: a column a teacher's score, a colour a beta.

    Dashed: the weight is a constant, which changes the gradient and not the loss. A teacher's
    score below 0.2 has its neighbourhood enlarged, as gradients are small there.

    Raises:
        InputError: a score is not strictly between 0 and 1.
    """
    drawing = figure(WIDTH, 6.0)
    grid_of_axes = drawing.subplots(2, len(targets), squeeze=False, sharex=True)
    scores = np.concatenate([[0.001], np.linspace(0.01, 0.99, 99), [0.999]])
    for (above, below), target in zip(grid_of_axes.T, targets, strict=True):
        # A point on either side of the target: at beta 1 the gradient jumps there.
        places = np.sort(np.append(scores, [target - 1e-4, target + 1e-4]))
        panels = [below, _enlarged(below, target)] if target < ENLARGED_BELOW else [below]
        for place, beta in enumerate(BETAS):
            for detached, dashes in ((False, "-"), (True, "--")):
                losses, gradients = binary_curve(target, places.tolist(), beta, detached)
                style = {"color": colour(place), "linewidth": 1.8, "linestyle": dashes}
                if not detached:
                    above.plot(places, losses, **style)
                if not (detached and beta == 0):
                    for axes in panels:
                        axes.plot(places, gradients, **style)
        for axes in (above, *panels):
            axes.axvline(target, color="0.6", linewidth=1, linestyle=":")
            axes.grid(alpha=0.3)
        below.axhline(0, color="black", linewidth=0.8)
        above.set_ylim(0, 2)
        below.set_ylim(-1.25, 1.25)
        above.set_title(f"teacher's score {target:g}", fontsize=10)
        below.set_xlabel("student's score $p_s$")
    grid_of_axes[0, 0].set_ylabel("loss")
    grid_of_axes[1, 0].set_ylabel("gradient on the logit")
    handles = [
        Line2D([], [], color=colour(place), linewidth=1.8, label=f"beta {beta:g}")
        for place, beta in enumerate(BETAS)
    ]
    dashed = Line2D([], [], color="0.3", linestyle="--", label="weight detached")
    legend: Style = {"loc": "outside upper center", "ncols": 4, "fontsize": 9}
    drawing.legend(handles=[*handles, dashed], **legend)
    return drawing


def _enlarged(axes: Axes, target: float) -> Axes:
    """A window into the gradients about a low score of the teacher, in the panel's empty half."""
    window = axes.inset_axes((0.12, 0.1, 0.84, 0.3))
    window.set_xlim(0, 3 * target)
    window.set_ylim(-target / 2, target / 2)
    window.axhline(0, color="black", linewidth=0.8)
    window.tick_params(labelsize=7)
    window.text(0.99, 0.05, "enlarged", fontsize=8, ha="right", transform=window.transAxes)
    return window


def share_bars(panels: dict[str, dict[str, float]]) -> Figure:
    """What part of several amounts lies at background, the rest at positives: a bar an amount.

    Args:
        panels: by title, the background's share (0..1) by name; the same names in each.

    Raises:
        InputError: a share is not from 0 to 1.
    """
    wrong = [share for panel in panels.values() for share in panel.values() if not 0 <= share <= 1]
    if wrong:
        raise InputError(f"a share is {wrong[0]}; expected 0 to 1")
    rows = max(len(panel) for panel in panels.values())
    drawing = figure(WIDTH, 1.1 + 0.34 * rows)
    axes_of = drawing.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
    for axes, (title, shares) in zip(axes_of, panels.items(), strict=True):
        percent = 100 * np.array(list(shares.values()))
        names = list(shares)
        bars = axes.barh(names, percent, 0.7, color=BACKGROUND, label="background")
        axes.barh(names, 100 - percent, 0.7, left=percent, color=POSITIVES, label="positives")
        axes.bar_label(bars, fmt="%.0f %%", label_type="center", color="white", fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share, %")
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
    axes_of[0].invert_yaxis()
    handles = axes_of[0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=2, fontsize=9)
    return drawing


def gate_curves(shares: dict[str, dict[int, float]]) -> Figure:
    """How often a level has no positive in a batch, over the size of the batch: a line a level.

    Args:
        shares: by name of the level, share of the batches (0..1) by number of images.
    """
    drawing = figure(6.2, 3.4)
    axes = drawing.subplots()
    for place, (name, found) in enumerate(shares.items()):
        style: Style = {"color": colour((0, 2, 5)[place % 3]), "marker": "os^"[place % 3]}
        axes.plot(list(found), [100 * share for share in found.values()], **style, label=name)
    sizes = sorted({size for found in shares.values() for size in found})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("images in the batch (log scale)")
    axes.set_ylabel("batches in which the gate\ncloses the level, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return drawing


_LOCATIONS = grid([(1, 1)], [8])
_YES = torch.ones(1, 1, dtype=torch.bool)
_ONE = Assignment(
    labels=torch.zeros(1, 1, dtype=torch.long),
    boxes=torch.zeros(1, 1, 4),
    valid=_YES,
    counted=_YES,
    positive=_YES,
    num_positives=torch.tensor(1.0),
)


def _one_score(score: float) -> DenseOutput:
    """One location of one class in double precision; its logit takes a gradient."""
    logits = torch.tensor([[[score]]], dtype=torch.float64).logit().requires_grad_()
    return DenseOutput(logits, torch.zeros(1, 1, 4), _LOCATIONS)

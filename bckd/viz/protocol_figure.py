"""One location in both protocols: what softmax and sigmoid make of the same logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bckd.geometry import grid
from bckd.losses import binary_classification, softmax_classification
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError
from bckd.viz.style import ROLE_COLOURS, figure

MAX_CLASSES = 8  # as many as the palette has colours, and bars a reader can compare
THRESHOLD = 0.3  # a class whose score reaches it is detected, as `LoadedDetector.predict` shows it
# Short enough to stand below a bar.
CLASS_NAMES = ("cat", "dog", "car", "bus", "bird", "boat", "cow", "kite")


@dataclass(frozen=True)
class ProtocolValues:
    """One location's scores, losses and gradients, one number a class where there are several.

    Attributes:
        teacher_probabilities, student_probabilities: softmax at the temperature.
        teacher_scores, student_scores: sigmoid.
        softmax_loss: T^2 mean_j KL, as `softmax_classification` with divisor 1.
        softmax_gradient: its gradient on the student's logits.
        binary_loss: L_cls, as `binary_classification` with divisor 1.
        binary_gradient: its gradient on the student's logits.
    """

    teacher_probabilities: tuple[float, ...]
    student_probabilities: tuple[float, ...]
    teacher_scores: tuple[float, ...]
    student_scores: tuple[float, ...]
    softmax_loss: float
    softmax_gradient: tuple[float, ...]
    binary_loss: float
    binary_gradient: tuple[float, ...]


def protocol_values(
    teacher: Sequence[float],
    student: Sequence[float],
    *,
    temperature: float = 2.0,
    detach_weight: bool = False,
) -> ProtocolValues:
    """Both losses of one location and their gradients, computed by `bckd.losses`.

    Args:
        teacher, student: class logits, 1 to `MAX_CLASSES`.
        temperature: T of the softmax.
        detach_weight: as in `binary_classification`.

    Raises:
        InputError: the logits differ in length, are none or too many, or a number is not finite;
            the temperature is not positive.
    """
    check_logits(teacher, student)
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"the temperature is {temperature}; expected a positive number")
    target = one_location(teacher)
    learner = one_location(student)
    learner = replace(learner, cls_logits=learner.cls_logits.requires_grad_())
    place = one_positive(target)
    softmax = softmax_classification(learner, target, place, temperature=temperature)
    binary = binary_classification(learner, target, place, detach_weight=detach_weight)
    (softmax_gradient,) = torch.autograd.grad(softmax, learner.cls_logits)
    (binary_gradient,) = torch.autograd.grad(binary, learner.cls_logits)
    return ProtocolValues(
        teacher_probabilities=_numbers((target.cls_logits / temperature).softmax(-1)),
        student_probabilities=_numbers((learner.cls_logits / temperature).softmax(-1)),
        teacher_scores=_numbers(target.cls_logits.sigmoid()),
        student_scores=_numbers(learner.cls_logits.sigmoid()),
        softmax_loss=softmax.item(),
        softmax_gradient=_numbers(softmax_gradient),
        binary_loss=binary.item(),
        binary_gradient=_numbers(binary_gradient),
    )


def check_logits(
    teacher: Sequence[float], student: Sequence[float], names: Sequence[str] | None = None
) -> None:
    """Refuse logits that are not those of one location.

    Raises:
        InputError: as in `protocol_values`, or there is not one name a class.
    """
    if len(teacher) != len(student):
        raise InputError(f"the teacher has {len(teacher)} logits and the student {len(student)}")
    if not 1 <= len(teacher) <= MAX_CLASSES:
        raise InputError(f"{len(teacher)} classes were given; expected 1 to {MAX_CLASSES}")
    for owner, logits in (("teacher", teacher), ("student", student)):
        for logit in logits:
            if not math.isfinite(logit):
                raise InputError(f"a logit of the {owner} is {logit}; expected a finite number")
    if names is not None and len(names) != len(teacher):
        raise InputError(f"{len(names)} names were given for {len(teacher)} classes")


def protocol_figure(
    teacher: Sequence[float],
    student: Sequence[float],
    names: Sequence[str] | None = None,
    temperature: float = 2.0,
) -> Figure:
    """Logits, both protocols' scores, and both losses with their gradients: three columns.

    The gradients share one scale. Training moves a logit against its gradient.

    Args:
        teacher, student: class logits of one location, 1 to `MAX_CLASSES`.
        names: of the classes; by default `CLASS_NAMES`.
        temperature: T of the softmax.

    Raises:
        InputError: as in `protocol_values`, or there is not one name a class.
    """
    check_logits(teacher, student, names)
    values = protocol_values(teacher, student, temperature=temperature)
    names = CLASS_NAMES[: len(teacher)] if names is None else names
    drawing = figure(10, 4.6)
    left, middle, right = drawing.subfigures(1, 3, squeeze=False).flat
    logits = left.subplots()
    _pairs(logits, names, teacher, student)
    logits.axhline(0, color="0.5", linewidth=0.8)
    logits.set_title("class logits of one location", fontsize=10)
    below = -0.1 if len(names) <= 5 else -0.24  # longer names are rotated
    logits.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2, frameon=False)

    softmax, sigmoid = middle.subplots(2, 1)
    _pairs(softmax, names, values.teacher_probabilities, values.student_probabilities)
    softmax.set_title(f"softmax probabilities, T = {temperature:g}", fontsize=10)
    _pairs(sigmoid, names, values.teacher_scores, values.student_scores)
    sigmoid.set_title("sigmoid scores", fontsize=10)
    for axes in (softmax, sigmoid):
        axes.set_ylim(0, 1)

    upper, lower = right.subplots(2, 1, sharey=True)
    _signed(upper, names, values.softmax_gradient)
    upper.set_title(f"softmax KD = {values.softmax_loss:.4f}, its gradient", fontsize=10)
    _signed(lower, names, values.binary_gradient)
    lower.set_title(f"L_cls = {values.binary_loss:.4f}, its gradient", fontsize=10)
    reach = max(0.1, *map(abs, values.softmax_gradient + values.binary_gradient))
    upper.set_ylim(-1.15 * reach, 1.15 * reach)
    return drawing


def _pairs(
    axes: Axes, names: Sequence[str], teacher: Sequence[float], student: Sequence[float]
) -> None:
    """Two bars a class, in the roles' colours."""
    places = np.arange(len(names))
    axes.bar(places - 0.2, teacher, width=0.38, color=ROLE_COLOURS["teacher"], label="teacher")
    axes.bar(places + 0.2, student, width=0.38, color=ROLE_COLOURS["student"], label="student")
    _label_classes(axes, names)


def _signed(axes: Axes, names: Sequence[str], gradient: Sequence[float]) -> None:
    axes.bar(np.arange(len(names)), gradient, width=0.5, color=ROLE_COLOURS["student"])
    axes.axhline(0, color="0.5", linewidth=0.8)
    _label_classes(axes, names)


def _label_classes(axes: Axes, names: Sequence[str]) -> None:
    rotation = 45 if len(names) > 5 else 0
    axes.set_xticks(np.arange(len(names)), names, fontsize=8, rotation=rotation)
    axes.set_xlim(-0.6, max(len(names), 3) - 0.4)  # a lone bar stays narrow
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def one_location(logits: Sequence[float]) -> DenseOutput:
    """A dense output of one image with one location; its box plays no part."""
    return DenseOutput(
        cls_logits=torch.tensor([[list(logits)]], dtype=torch.float64),
        boxes=torch.zeros(1, 1, 4),
        locations=grid([(1, 1)], [8]),
    )


def one_positive(output: DenseOutput) -> Assignment:
    """The location is positive, so both losses are divided by 1."""
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    return Assignment(
        labels=torch.zeros(1, 1, dtype=torch.long),
        boxes=output.boxes,
        valid=everywhere,
        counted=everywhere,
        positive=everywhere,
        num_positives=torch.tensor(1.0),
    )


def _numbers(tensor: Tensor) -> tuple[float, ...]:
    return tuple(tensor.detach().flatten().tolist())

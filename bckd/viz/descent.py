"""Two copies of a student roll downhill, one on each loss: where do their scores end?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bckd.losses import binary_classification, softmax_classification
from bckd.studies.methods import methods
from bckd.viz.protocol_figure import MAX_CLASSES, check_logits, one_location, one_positive

STEPS = 400
# Logits a unit of weighted gradient. The rate falls in a line to 0, so that a loss with a kink
# at its minimum comes to rest as well.
FIRST_RATE = 1.5

Path = tuple[tuple[float, ...], ...]  # logits before the first step and after each one


@dataclass(frozen=True)
class Descent:
    """Logits of the two copies, `STEPS + 1` times one number a class.

    Attributes:
        softmax: of the copy that descends softmax distillation.
        binary: of the copy that descends L_cls.
    """

    softmax: Path
    binary: Path


def published_weights(classes: int) -> tuple[float, float]:
    """Of softmax distillation, a mean over classes, and of L_cls, a sum over them."""
    found = methods(classes)
    return found["softmax"].weights["softmax"], found["L_cls"].weights["binary"]


def descent_rules() -> dict[str, Any]:
    """What an explorer needs to do as `descend` does; "weights" by the number of classes from 1."""
    return {
        "steps": STEPS,
        "first_rate": FIRST_RATE,
        "weights": [published_weights(count) for count in range(1, MAX_CLASSES + 1)],
    }


def descend(
    teacher: Sequence[float],
    student: Sequence[float],
    *,
    temperature: float = 2.0,
    detach_weight: bool = False,
) -> Descent:
    """Plain gradient descent on the logits of one location, each loss with its published weight.

    Args:
        teacher, student: class logits, 1 to `MAX_CLASSES` of `bckd.viz.protocol_figure`.
        temperature: T of the softmax.
        detach_weight: as in `binary_classification`.

    Raises:
        InputError: the logits differ in length, are none or too many, or a number is not finite.
    """
    check_logits(teacher, student)
    target = one_location(teacher)
    place = one_positive(target)
    softmax_weight, binary_weight = published_weights(len(teacher))
    copies = one_location(student).cls_logits.expand(2, 1, 1, -1)
    found = [copies]
    for step in range(STEPS):
        copies = copies.detach().requires_grad_()
        by_softmax, by_binary = (replace(target, cls_logits=logits) for logits in copies)
        loss = softmax_weight * softmax_classification(
            by_softmax, target, place, temperature=temperature
        ) + binary_weight * binary_classification(
            by_binary, target, place, detach_weight=detach_weight
        )
        (gradient,) = torch.autograd.grad(loss, copies)
        copies = copies.detach() - FIRST_RATE * (1 - step / STEPS) * gradient
        found.append(copies)
    softmax, binary = torch.stack(found, dim=1).flatten(start_dim=2).tolist()
    return Descent(tuple(map(tuple, softmax)), tuple(map(tuple, binary)))

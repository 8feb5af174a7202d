"""What each distillation loss makes of every location by itself: its value and its gradient."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bckd.geometry import grid
from bckd.losses import binary_classification, softmax_classification
from bckd.structures import Assignment, DenseOutput

TEMPERATURE = 2.0  # of softmax distillation, as in the official code


@torch.enable_grad()  # wherever it is asked for
def binary_pull(student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
    """L_cls of some locations, divided by 1 and unweighted, and its gradient.

    Args:
        student, teacher: class logits (A, K).

    Returns:
        The sum over the locations, and the gradient (A, K) on the student's logits.
    """
    learner, target, places = _alone(student, teacher)
    loss = binary_classification(learner, target, places, gate_levels=False)
    return loss.item(), torch.autograd.grad(loss, learner.cls_logits)[0][0]


@torch.enable_grad()
def softmax_pull(student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
    """Softmax distillation of some locations at `TEMPERATURE`, as `binary_pull`."""
    learner, target, places = _alone(student, teacher)
    loss = softmax_classification(
        learner, target, places, temperature=TEMPERATURE, gate_levels=False
    )
    return loss.item(), torch.autograd.grad(loss, learner.cls_logits)[0][0]


def _alone(student: Tensor, teacher: Tensor) -> tuple[DenseOutput, DenseOutput, Assignment]:
    """The pair as dense outputs of one image, and one positive, so that losses divide by 1."""
    # Boxes and places play no part in losses of classes.
    locations = grid(((1, len(student)),), (1,))
    boxes = torch.zeros(1, len(student), 4, dtype=torch.float64)
    target = DenseOutput(teacher.double()[None], boxes, locations)
    learner = replace(target, cls_logits=student.detach().double()[None].requires_grad_())
    positive = torch.zeros(1, len(student), dtype=torch.bool)
    positive[:, 0] = True
    return learner, target, Assignment.for_distillation(positive)

"""Losses of locations by themselves, against the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.viz.location_losses import TEMPERATURE, binary_pull, softmax_pull

STUDENT = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
TEACHER = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3


def binary(student: Tensor) -> Tensor:
    """(A,) L_cls of each location."""
    target = TEACHER.sigmoid()
    bce = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return ((student.sigmoid() - target).abs() * bce).sum(dim=-1)


def softmax(student: Tensor) -> Tensor:
    """(A,) softmax distillation of each location."""
    target = (TEACHER / TEMPERATURE).softmax(dim=-1)
    gap = target.log() - (student / TEMPERATURE).log_softmax(dim=-1)
    return TEMPERATURE**2 * (target * gap).mean(dim=-1)


@pytest.mark.parametrize(("pull", "formula"), [(binary_pull, binary), (softmax_pull, softmax)])
def test_loss_and_gradient(pull: object, formula: object) -> None:
    learner = STUDENT.clone().requires_grad_()
    per_location = formula(learner)
    (expected,) = torch.autograd.grad(per_location.sum(), learner)
    with torch.no_grad():  # as in notebooks that turn gradients off
        loss, gradient = pull(STUDENT, TEACHER)
        alone, own = pull(STUDENT[2:3], TEACHER[2:3])
    assert loss == pytest.approx(per_location.sum().item())
    assert torch.allclose(gradient, expected)
    assert alone == pytest.approx(per_location[2].item()), "a location knows of no other"
    assert torch.allclose(own, expected[2:3])


def test_what_softmax_can_not_pull() -> None:
    _, gradient = softmax_pull(STUDENT, TEACHER)
    assert gradient.sum(dim=-1).abs().max() < 1e-12, "a common shift of the logits"
    assert binary_pull(STUDENT, TEACHER)[1].sum(dim=-1).abs().min() > 1e-3

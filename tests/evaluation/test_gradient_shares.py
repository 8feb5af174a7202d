"""How much each loss term pulls at the class logits, and at the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bckd.evaluation.gradient_shares import (
    gradient_shares,
    pull_of_terms,
    pulled_parameters,
    shares_of_pull,
)
from bckd.losses import binary_classification, iou_localisation
from bckd.models.detector import Detector
from bckd.models.heads.gfl import gfl_losses
from bckd.system.errors import InputError

Make = Callable[..., Any]  # a maker of inputs from conftest.py


@pytest.fixture
def places() -> tuple[Tensor, Tensor]:
    """Two images of five locations: three positives, and nine valid ones in all."""
    positive = torch.zeros(2, 5, dtype=torch.bool)
    positive[0, 1] = positive[0, 2] = positive[1, 4] = True
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1, 0] = False
    return positive, valid


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


class TestKnownGradients:
    def test_a_weighted_sum_of_logits(self, logits: Tensor, places: tuple[Tensor, Tensor]) -> None:
        shares = gradient_shares({"sum": -0.5 * logits.sum()}, logits, *places)
        assert shares == {"sum": {"foreground": 0.5 * 3 * 4, "background": 0.5 * 6 * 4}}

    def test_half_the_squares(self, logits: Tensor, places: tuple[Tensor, Tensor]) -> None:
        positive, valid = places
        shares = gradient_shares({"squares": logits.square().sum() / 2}, logits, positive, valid)
        size = logits.detach().abs()
        assert shares["squares"] == pytest.approx(
            {
                "foreground": size[positive].sum().item(),
                "background": size[valid & ~positive].sum().item(),
            }
        )

    def test_beyond_the_image_nothing_counts(
        self, logits: Tensor, places: tuple[Tensor, Tensor]
    ) -> None:
        positive, valid = places
        shares = gradient_shares({"beyond": logits[~valid].sum()}, logits, positive, valid)
        assert shares == {"beyond": {"foreground": 0, "background": 0}}

    def test_other_terms_are_left_out(self, logits: Tensor, places: tuple[Tensor, Tensor]) -> None:
        terms = {
            "of others": torch.ones(3, requires_grad=True).sum(),
            "constant": torch.tensor(2.0),
            "detached": logits.detach().sum(),
            "first": logits[0].sum(),
        }
        assert list(gradient_shares(terms, logits, *places)) == ["first"]


def test_the_terms_of_a_detector(dense_output: Make, assignment_of: Make) -> None:
    """The binary term's two shares are its whole gradient; boxes do not pull at the classes."""
    student, teacher = dense_output(seed=1), dense_output(seed=2)
    assignment = assignment_of(student, {(0, 3): 1, (0, 22): 2, (1, 11): 2})
    terms = {
        **gfl_losses(student, assignment),
        "binary": binary_classification(student, teacher, assignment),
        "iou": iou_localisation(student, teacher, assignment),
    }
    shares = gradient_shares(terms, student.cls_logits, assignment.positive, assignment.valid)
    assert list(shares) == ["qfl", "binary"]
    assert min(shares["binary"].values()) > 0
    terms["binary"].backward()
    whole = student.cls_logits.grad.double().abs().sum().item()
    assert sum(shares["binary"].values()) == pytest.approx(whole, rel=1e-6)


def test_training_does_not_notice(
    tiny_detector: Callable[..., Detector], assignment_of: Make
) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))

    def gradients(look: bool) -> dict[str, Tensor]:
        student = tiny_detector(seed=1).train()
        output, target = student(images), tiny_detector(seed=2)(images)
        assignment = assignment_of(output, {(0, 3): 1, (1, 11): 2})
        terms = {
            **gfl_losses(output, assignment),
            "binary": binary_classification(output, target, assignment),
        }
        if look:
            gradient_shares(terms, output.cls_logits, assignment.positive, assignment.valid)
            assert all(parameter.grad is None for parameter in student.parameters())
        torch.stack(list(terms.values())).sum().backward()
        return {
            name: value.grad for name, value in student.named_parameters() if value.requires_grad
        }

    plain, looked_at = gradients(False), gradients(True)
    assert plain.keys() == looked_at.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, looked_at[name]), name


class TestBadInput:
    def test_logits_without_gradient(self, logits: Tensor, places: tuple[Tensor, Tensor]) -> None:
        with pytest.raises(InputError, match="take no gradient"):
            gradient_shares({"sum": logits.sum()}, logits.detach(), *places)

    def test_masks_of_another_shape(self, logits: Tensor, places: tuple[Tensor, Tensor]) -> None:
        positive, valid = places
        with pytest.raises(InputError, match=r"valid has shape \(2, 3\); expected \(2, 5\)"):
            gradient_shares({"sum": logits.sum()}, logits, positive, valid[:, :3])


class TestPull:
    """What all terms have: the gradient on the parameters in front of the head."""

    def terms(self, student: Detector, teacher: Detector, assignment_of: Make) -> dict[str, Tensor]:
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
        output, target = student(images), teacher(images)
        assignment = assignment_of(output, {(0, 3): 1, (1, 11): 2})
        maps = zip(output.features, target.features, strict=True)
        return {
            **gfl_losses(output, assignment),
            "iou": 4 * iou_localisation(output, target, assignment),
            "features": sum((x - y).square().mean() for x, y in maps),
            "of the head": student.head.cls.bias.square().sum(),
            "constant": torch.tensor(2.0),
        }

    def test_it_is_the_norm_of_each_term_alone(
        self, tiny_detector: Callable[..., Detector], assignment_of: Make
    ) -> None:
        student, teacher = tiny_detector(seed=1), tiny_detector(seed=2).requires_grad_(False)
        terms = self.terms(student, teacher, assignment_of)
        pull = pull_of_terms(terms, pulled_parameters(student))
        assert all(parameter.grad is None for parameter in student.parameters())
        assert pull.keys() == terms.keys()
        assert pull["of the head"] == pull["constant"] == 0
        for name in ("qfl", "dfl", "giou", "iou", "features"):
            student.zero_grad()
            self.terms(student, teacher, assignment_of)[name].backward()
            parts = (student.backbone, student.neck)
            squares = [x.grad.square().sum() for part in parts for x in part.parameters()]
            assert pull[name] > 0
            torch.testing.assert_close(pull[name], torch.stack(squares).sum().sqrt())
        shares = shares_of_pull(pull)
        assert sum(shares.values()) == pytest.approx(1)
        whole = sum(float(x) for x in pull.values())
        assert shares["iou"] == pytest.approx(float(pull["iou"]) / whole)

    def test_of_a_student_without_a_head_all_that_learns_counts(self) -> None:
        layer = torch.nn.Linear(2, 1)
        layer.bias.requires_grad_(False)
        (weight,) = pulled_parameters(layer)
        assert weight is layer.weight
        head = torch.nn.ModuleDict({"head": layer})
        assert pulled_parameters(head) == [layer.weight]
        both = torch.nn.ModuleDict({"head": layer, "body": torch.nn.Linear(2, 2)})
        assert len(pulled_parameters(both)) == 2

    @pytest.mark.parametrize("sizes", [[], [0.0], [1.0, float("nan")], [1.0, float("inf")]])
    def test_shares_of_nothing(self, sizes: list[float]) -> None:
        assert shares_of_pull({str(n): torch.tensor(x) for n, x in enumerate(sizes)}) == {}

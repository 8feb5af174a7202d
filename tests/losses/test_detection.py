from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.losses import gfl_losses
from bckd.losses.detection import distribution_focal_loss, quality_focal_loss
from bckd.structures import Assignment, DenseOutput

Make = Callable[..., Any]  # a maker of inputs from conftest.py
NUM_CLASSES = 3
POSITIVES = {(0, 3): 1, (0, 7): 0, (1, 22): 2}


@pytest.fixture
def output(dense_output: Make) -> DenseOutput:
    return dense_output(seed=1)


@pytest.fixture
def assignment(output: DenseOutput, assignment_of: Make) -> Assignment:
    return assignment_of(output, POSITIVES)


def naive_quality_focal(logits: list[float], label: int, quality: float, beta: float) -> float:
    total = 0.0
    for j, logit in enumerate(logits):
        target, score = quality if j == label else 0.0, 1 / (1 + math.exp(-logit))
        bce = -(target * math.log(score) + (1 - target) * math.log(1 - score))
        total += abs(target - score) ** beta * bce
    return total


def naive_distribution_focal(logits: list[float], distance: float) -> float:
    distance = min(max(distance, 0.0), len(logits) - 1 - 0.1)
    total = sum(math.exp(x) for x in logits)
    lower = int(distance)
    at_lower, at_upper = (math.log(math.exp(logits[b]) / total) for b in (lower, lower + 1))
    return -(at_lower * (lower + 1 - distance) + at_upper * (distance - lower))


class TestQualityFocal:
    @pytest.mark.parametrize("beta", [1.0, 2.0])
    def test_agrees_with_the_naive_loop(self, beta: float) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = 2 * torch.randn(3, 5, NUM_CLASSES, generator=generator)
        labels = torch.randint(NUM_CLASSES + 1, (3, 5), generator=generator)
        quality = torch.rand(3, 5, generator=generator)
        found = quality_focal_loss(logits, labels, quality, beta)
        assert found.shape == (3, 5)
        for index in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
            row = tuple(index)
            expected = naive_quality_focal(
                logits[row].tolist(), int(labels[row]), float(quality[row]), beta
            )
            assert found[row].item() == pytest.approx(expected, rel=1e-4)

    def test_is_zero_with_zero_gradient_at_the_quality(self) -> None:
        quality = torch.tensor([0.3, 0.8])
        logits = torch.stack([quality.logit(), torch.full((2,), -40.0)], dim=1).requires_grad_()
        loss = quality_focal_loss(logits, torch.tensor([0, 0]), quality).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == pytest.approx(0, abs=1e-8)
        torch.testing.assert_close(gradient, torch.zeros(2, 2), atol=1e-6, rtol=0)

    def test_background_has_no_quality(self) -> None:
        logits, background = torch.linspace(-2, 2, 8).view(4, 2), torch.full((4,), 2)
        one, other = (
            quality_focal_loss(logits, background, torch.full((4,), value)) for value in (0.0, 0.9)
        )
        assert torch.equal(one, other)


class TestDistributionFocal:
    def test_agrees_with_the_naive_loop(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(8, 5, generator=generator)
        distances = torch.tensor([0.0, 0.4, 1.0, 2.5, 3.2, 3.95, 9.0, -1.0])
        found = distribution_focal_loss(logits, distances)
        for row, distance, loss in zip(logits.tolist(), distances.tolist(), found, strict=True):
            assert loss.item() == pytest.approx(naive_distribution_focal(row, distance), rel=1e-5)

    def test_is_least_where_the_two_nearest_bins_share_the_mass(self) -> None:
        distance = torch.tensor(2.3)
        best = torch.tensor([-30.0, -30, math.log(0.7), math.log(0.3), -30])
        least = distribution_focal_loss(best, distance)
        generator = torch.Generator().manual_seed(1)
        for _ in range(20):
            other = best + 0.5 * torch.randn(5, generator=generator)
            assert distribution_focal_loss(other, distance) > least


def naive_losses(output: DenseOutput, assignment: Assignment, divisor: str) -> dict[str, float]:
    """The three losses, location by location."""
    qfl, giou, dfl, weights = 0.0, 0.0, 0.0, 0.0
    for n in range(output.cls_logits.shape[0]):
        for a in range(output.cls_logits.shape[1]):
            box, target = output.boxes[n, a], assignment.boxes[n, a]
            positive = bool(assignment.positive[n, a])
            quality = box_similarity(box, target).item() if positive else 0.0
            logits = output.cls_logits[n, a].tolist()
            if assignment.counted[n, a]:
                qfl += naive_quality_focal(logits, int(assignment.labels[n, a]), quality, 2.0)
            if positive:
                weight = 1 / (1 + math.exp(-max(logits))) + (2e-4 if divisor == "bckd" else 0)
                weights += weight
                giou += weight * (1 - box_similarity(box, target, "giou").item())
                x, y = output.locations.centres[a].tolist()
                low_x, low_y, high_x, high_y = target.tolist()
                stride = output.locations.strides[a].item()
                for side, d in enumerate((x - low_x, y - low_y, high_x - x, high_y - y)):
                    bins = output.box_logits[n, a, side].tolist()
                    dfl += weight * naive_distribution_focal(bins, d / stride) / 4
    total = weights + 1e-6 if divisor == "bckd" else max(weights, 1.0)
    return {"qfl": qfl / assignment.num_positives.item(), "giou": giou / total, "dfl": dfl / total}


@pytest.mark.parametrize("divisor", ["gfl", "bckd"])
class TestGflLosses:
    def test_agrees_with_the_naive_loop(
        self, output: DenseOutput, assignment: Assignment, divisor: str
    ) -> None:
        losses = gfl_losses(output, assignment, divisor)
        expected = naive_losses(output, assignment, divisor)
        assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-4)

    def test_gradients_reach_what_each_loss_teaches(
        self, output: DenseOutput, assignment: Assignment, divisor: str
    ) -> None:
        losses = gfl_losses(output, assignment, divisor)
        on_classes, on_boxes = gradients(losses["qfl"], output)
        assert on_classes.any() and not on_boxes.any()
        for name in ("giou", "dfl"):
            on_classes, on_boxes = gradients(losses[name], output)
            assert not on_classes.any(), "the weight of a box is a constant"
            assert torch.equal(on_boxes.flatten(2).any(dim=-1), assignment.positive)

    def test_without_positives(
        self, output: DenseOutput, assignment_of: Make, divisor: str
    ) -> None:
        losses = gfl_losses(output, assignment_of(output, {}), divisor)
        assert losses["giou"] == 0 and losses["dfl"] == 0
        assert losses["qfl"] > 0
        for name in ("giou", "dfl"):
            # Still part of the graph: in a distributed run every process needs a gradient.
            (gradient,) = torch.autograd.grad(losses[name], output.box_logits, retain_graph=True)
            assert torch.equal(gradient, torch.zeros_like(gradient))
        assert gradients(sum(losses.values()), output)[0].isfinite().all()

    def test_what_is_not_counted_does_not_teach(
        self, output: DenseOutput, assignment: Assignment, divisor: str
    ) -> None:
        counted = assignment.counted.clone()
        counted[0, 10:15] = counted[1, 0] = False
        losses = gfl_losses(output, replace(assignment, counted=counted), divisor)
        on_classes, _ = gradients(losses["qfl"], output)
        assert torch.equal(on_classes.any(dim=-1), counted)
        full = gfl_losses(output, assignment, divisor)
        assert losses["qfl"] < full["qfl"]
        assert losses["giou"] == full["giou"] and losses["dfl"] == full["dfl"]

    def test_the_quality_is_a_constant(
        self, output: DenseOutput, assignment: Assignment, divisor: str
    ) -> None:
        boxes = output.boxes.detach().requires_grad_()
        losses = gfl_losses(replace(output, boxes=boxes), assignment, divisor)
        (gradient,) = torch.autograd.grad(losses["qfl"], boxes, allow_unused=True)
        assert gradient is None


class TestDivisors:
    def test_only_the_plain_head_has_a_least_divisor(
        self, dense_output: Make, output_of: Make, assignment_of: Make
    ) -> None:
        loud = dense_output(seed=1)
        quiet = output_of(torch.full_like(loud.cls_logits, -6.0), loud.box_logits, loud.locations)
        assignment = assignment_of(quiet, POSITIVES)
        score = 1 / (1 + math.exp(6))
        plain, distilled = (gfl_losses(quiet, assignment, kind) for kind in ("gfl", "bckd"))
        mean = naive_losses(quiet, assignment, "bckd")
        for name in ("giou", "dfl"):
            # Three weights of `score` sum to less than 1, which then divides.
            assert plain[name].item() == pytest.approx(mean[name] * 3 * score, rel=1e-3)
            assert distilled[name].item() == pytest.approx(mean[name], rel=1e-4)
        assert torch.equal(plain["qfl"], distilled["qfl"])

    def test_the_plain_head_is_the_default(
        self, output: DenseOutput, assignment: Assignment
    ) -> None:
        default, plain = gfl_losses(output, assignment), gfl_losses(output, assignment, "gfl")
        assert default == plain


def gradients(loss: Tensor, output: DenseOutput) -> tuple[Tensor, Tensor]:
    """Gradient on the class and on the box logits; zeros where the loss does not depend."""
    leaves = [output.cls_logits, output.box_logits]
    return torch.autograd.grad(
        loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True
    )

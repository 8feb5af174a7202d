from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bckd.geometry import EPSILON, box_similarity, deltas_to_boxes, grid, with_anchors
from bckd.losses.focal import distribution_focal_loss, quality_focal_loss
from bckd.losses.supervised import centerness_of
from bckd.models.heads.atss import atss_losses
from bckd.models.heads.fcos import fcos_losses
from bckd.models.heads.gfl import gfl_losses
from bckd.models.heads.retinanet import retinanet_losses
from bckd.structures import Assignment, DenseOutput, Level, Locations

Make = Callable[..., Any]  # a maker of inputs from conftest.py
NUM_CLASSES = 3
POSITIVES = {(0, 3): 1, (0, 7): 0, (1, 22): 2}


@pytest.fixture
def output(dense_output: Make) -> DenseOutput:
    return dense_output(seed=1)


@pytest.fixture
def assignment(output: DenseOutput, assignment_of: Make) -> Assignment:
    return assignment_of(output, POSITIVES)


def with_logits(logits: Tensor) -> DenseOutput:
    """An output of which nothing but its logits matters."""
    levels = (Level(8, 1, logits.shape[-2]),)
    places = Locations(torch.zeros(logits.shape[-2], 2), torch.ones(logits.shape[-2]), levels)
    return DenseOutput(logits, torch.zeros(*logits.shape[:-1], 4), places)


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
        found = quality_focal_loss(with_logits(logits), labels, quality, beta)
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
        loss = quality_focal_loss(with_logits(logits), torch.tensor([0, 0]), quality).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == pytest.approx(0, abs=1e-8)
        torch.testing.assert_close(gradient, torch.zeros(2, 2), atol=1e-6, rtol=0)

    def test_background_has_no_quality(self) -> None:
        logits, background = torch.linspace(-2, 2, 8).view(4, 2), torch.full((4,), 2)
        one, other = (
            quality_focal_loss(with_logits(logits), background, torch.full((4,), value))
            for value in (0.0, 0.9)
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


# The three other families: one output has all that their losses read.

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
OTHERS = {"retinanet": retinanet_losses, "fcos": fcos_losses, "atss": atss_losses}
LEAVES = ("cls_logits", "deltas", "quality")
# Which leaf each loss teaches.
TEACHES = {
    ("retinanet", "focal"): "cls_logits",
    ("retinanet", "l1"): "deltas",
    ("fcos", "focal"): "cls_logits",
    ("fcos", "log_iou"): "deltas",
    ("fcos", "centerness"): "quality",
    ("atss", "focal"): "cls_logits",
    ("atss", "giou"): "deltas",
    ("atss", "centerness"): "quality",
}


def anchored_output(
    cls_logits: Tensor | None = None, deltas: Tensor | None = None, quality: Tensor | None = None
) -> DenseOutput:
    """Random output of two images with two anchors a cell; what is given replaces it."""
    generator = torch.Generator().manual_seed(2)
    locations = with_anchors(grid([(4, 5), (2, 3)], [8, 16]), [(3.0, 2.0), (1.5, 4.0)])
    shape = (2, len(locations.centres))
    drawn = (
        2 * torch.randn(*shape, NUM_CLASSES, generator=generator) - 1,
        0.4 * torch.randn(*shape, 4, generator=generator),
        torch.randn(*shape, generator=generator),
    )
    given = (cls_logits, deltas, quality)
    leaves = [
        (one if other is None else other).detach().clone().requires_grad_()
        for one, other in zip(drawn, given, strict=True)
    ]
    boxes = deltas_to_boxes(locations.anchors, leaves[1])
    return DenseOutput(leaves[0], boxes, locations, deltas=leaves[1], quality=leaves[2])


def leaf_gradients(loss: Tensor, output: DenseOutput) -> dict[str, Tensor]:
    leaves = [getattr(output, name) for name in LEAVES]
    found = torch.autograd.grad(
        loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return dict(zip(LEAVES, found, strict=True))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def naive_focal(logits: list[float], label: int) -> float:
    total = 0.0
    for j, logit in enumerate(logits):
        score = sigmoid(logit)
        if j == label:
            total -= ALPHA * (1 - score) ** GAMMA * math.log(score)
        else:
            total -= (1 - ALPHA) * score**GAMMA * math.log(1 - score)
    return total


def naive_centerness(centre: list[float], box: list[float]) -> float:
    (x, y), (x1, y1, x2, y2) = centre, box
    across = min(x - x1, x2 - x) / max(x - x1, x2 - x)
    down = min(y - y1, y2 - y) / max(y - y1, y2 - y)
    return math.sqrt(across * down)


def naive_iou(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and GIoU."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union, shared / union - (around - union) / around


def naive_cross_entropy(logit: float, target: float) -> float:
    score = sigmoid(logit)
    return -(target * math.log(score) + (1 - target) * math.log(1 - score))


def naive_l1(anchor: list[float], target: list[float], deltas: list[float]) -> float:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    expected = [
        (target[0] + target[2] - anchor[0] - anchor[2]) / 2 / width,
        (target[1] + target[3] - anchor[1] - anchor[3]) / 2 / height,
        math.log((target[2] - target[0]) / width),
        math.log((target[3] - target[1]) / height),
    ]
    return sum(abs(x - y) for x, y in zip(deltas, expected, strict=True))


def naive_other_losses(head: str, output: DenseOutput, assignment: Assignment) -> dict[str, float]:
    """The losses of RetinaNet, FCOS or ATSS, location by location."""
    sums = dict.fromkeys(("focal", "l1", "log_iou", "giou", "centerness", "weight"), 0.0)
    for n, a in torch.cartesian_prod(*map(torch.arange, assignment.labels.shape)).tolist():
        label = int(assignment.labels[n, a])
        if assignment.counted[n, a]:
            sums["focal"] += naive_focal(output.cls_logits[n, a].tolist(), label)
        if assignment.positive[n, a]:
            box, target = output.boxes[n, a].tolist(), assignment.boxes[n, a].tolist()
            weight = naive_centerness(output.locations.centres[a].tolist(), target)
            iou, giou = naive_iou(box, target)
            sums["weight"] += weight
            sums["log_iou"] -= weight * math.log(max(iou, EPSILON))
            sums["giou"] += weight * (1 - giou)
            sums["centerness"] += naive_cross_entropy(output.quality[n, a].item(), weight)
            anchor = output.locations.anchors[a].tolist()
            sums["l1"] += naive_l1(anchor, target, output.deltas[n, a].tolist())
    count = assignment.num_positives.item()
    means = {name: sums[name] / count for name in ("focal", "l1", "centerness")}
    means["log_iou"] = sums["log_iou"] / sums["weight"]
    means["giou"] = sums["giou"] / max(sums["weight"], 1)
    return {name: means[name] for of, name in TEACHES if of == head}


@pytest.mark.parametrize("head", OTHERS)
class TestOtherFamilies:
    @pytest.fixture
    def output(self) -> DenseOutput:
        return anchored_output()

    @pytest.mark.parametrize("positives", [POSITIVES, {(1, 50): 2}])
    def test_agrees_with_the_naive_loop(
        self, head: str, output: DenseOutput, assignment_of: Make, positives: dict
    ) -> None:
        assignment = assignment_of(output, positives)
        found = {name: x.item() for name, x in OTHERS[head](output, assignment).items()}
        expected = naive_other_losses(head, output, assignment)
        assert found == pytest.approx(expected, rel=1e-4)

    def test_gradients_reach_what_each_loss_teaches(
        self, head: str, output: DenseOutput, assignment: Assignment
    ) -> None:
        losses = OTHERS[head](output, assignment)
        assert losses.keys() == {name for of, name in TEACHES if of == head}
        for name, loss in losses.items():
            for leaf, gradient in leaf_gradients(loss, output).items():
                reached = gradient.flatten(2).any(dim=-1) if gradient.dim() == 3 else gradient != 0
                if leaf != TEACHES[head, name]:
                    assert not reached.any(), (name, leaf)
                elif name == "focal":
                    assert reached.all()
                else:
                    assert torch.equal(reached, assignment.positive), (name, leaf)

    def test_without_positives(self, head: str, output: DenseOutput, assignment_of: Make) -> None:
        nothing = assignment_of(output, {})
        losses = OTHERS[head](output, nothing)
        expected = naive_focal_sum(output) / nothing.num_positives.item()
        assert losses.pop("focal").item() == pytest.approx(expected, rel=1e-4)
        for name, loss in losses.items():
            assert loss == 0
            # Still part of the graph: in a distributed run every process needs a gradient.
            leaf = getattr(output, TEACHES[head, name])
            (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
            assert torch.equal(gradient, torch.zeros_like(gradient))

    def test_what_is_not_counted_does_not_teach(
        self, head: str, output: DenseOutput, assignment: Assignment
    ) -> None:
        counted = assignment.counted.clone()
        counted[0, 10:15] = counted[1, 0] = False
        losses = OTHERS[head](output, replace(assignment, counted=counted))
        full = OTHERS[head](output, assignment)
        reached = leaf_gradients(losses["focal"], output)["cls_logits"].any(dim=-1)
        assert torch.equal(reached, counted)
        assert losses.pop("focal") < full.pop("focal")
        assert losses == full

    def test_the_number_of_positives_divides(
        self, head: str, output: DenseOutput, assignment: Assignment
    ) -> None:
        double = replace(assignment, num_positives=2 * assignment.num_positives)
        one, other = OTHERS[head](output, assignment), OTHERS[head](output, double)
        for name in one:
            # The box losses of FCOS and ATSS are means weighted by centerness instead.
            factor = 1 if name in ("log_iou", "giou") else 2
            torch.testing.assert_close(one[name], factor * other[name])

    @pytest.mark.parametrize("logit", [-200.0, 200.0])
    def test_sure_scores_keep_a_finite_gradient(
        self, head: str, assignment_of: Make, logit: float
    ) -> None:
        plain = anchored_output()
        output = anchored_output(
            cls_logits=torch.full_like(plain.cls_logits, logit),
            quality=torch.full_like(plain.quality, logit),
        )
        losses = OTHERS[head](output, assignment_of(output, POSITIVES))
        assert all(loss.isfinite() for loss in losses.values())
        for gradient in leaf_gradients(sum(losses.values()), output).values():
            assert gradient.isfinite().all()

    def test_boxes_far_away_keep_a_finite_gradient(self, head: str, assignment_of: Make) -> None:
        deltas = torch.full_like(anchored_output().deltas, -50.0)  # far away, as small as can be
        output = anchored_output(deltas=deltas)
        losses = OTHERS[head](output, assignment_of(output, POSITIVES))
        assert all(loss.isfinite() for loss in losses.values())
        for gradient in leaf_gradients(sum(losses.values()), output).values():
            assert gradient.isfinite().all()

    def test_a_perfect_box_costs_nothing(
        self, head: str, output: DenseOutput, assignment: Assignment
    ) -> None:
        targets = output.boxes.detach().where(~assignment.positive[..., None], assignment.boxes)
        perfect = replace(output, boxes=targets, deltas=output.deltas.detach())
        if head == "retinanet":
            anchors = output.locations.anchors
            sides = anchors[:, 2:] - anchors[:, :2]
            shift = (targets[..., :2] + targets[..., 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
            stretch = ((targets[..., 2:] - targets[..., :2]) / sides).log()
            perfect = replace(perfect, deltas=torch.cat([shift / sides, stretch], dim=-1))
        losses = OTHERS[head](perfect, assignment)
        (name,) = losses.keys() & {"l1", "log_iou", "giou"}
        assert losses[name].item() == pytest.approx(0, abs=1e-5)


def naive_focal_sum(output: DenseOutput) -> float:
    """Focal loss of every location as background."""
    rows = output.cls_logits.flatten(0, 1).tolist()
    return sum(naive_focal(logits, NUM_CLASSES) for logits in rows)


class TestBoxDivisors:
    """One positive far from the middle of its box: its centerness is well below 1."""

    def single(self, assignment_of: Make) -> tuple[DenseOutput, Assignment, float]:
        output = anchored_output()
        assignment = assignment_of(output, {(0, 3): 1})
        centre, box = output.locations.centres[3], assignment.boxes[0, 3]
        weight = naive_centerness(centre.tolist(), box.tolist())
        assert 0.1 < weight < 0.9
        return output, assignment, weight

    def test_fcos_has_a_mean(self, assignment_of: Make) -> None:
        output, assignment, _ = self.single(assignment_of)
        iou = box_similarity(output.boxes[0, 3], assignment.boxes[0, 3])
        torch.testing.assert_close(fcos_losses(output, assignment)["log_iou"], -iou.log())

    def test_atss_divides_by_one_at_least(self, assignment_of: Make) -> None:
        output, assignment, weight = self.single(assignment_of)
        giou = box_similarity(output.boxes[0, 3], assignment.boxes[0, 3], "giou")
        torch.testing.assert_close(atss_losses(output, assignment)["giou"], weight * (1 - giou))

    def test_fcos_box_without_overlap_costs_the_most(self, assignment_of: Make) -> None:
        deltas = torch.full_like(anchored_output().deltas, -50.0)  # far away
        output = anchored_output(deltas=deltas)
        loss = fcos_losses(output, assignment_of(output, {(0, 3): 1}))["log_iou"]
        assert loss.item() == pytest.approx(-math.log(EPSILON))


class TestCenterness:
    def test_agrees_with_the_formula(self) -> None:
        generator = torch.Generator().manual_seed(3)
        centres = 50 * torch.rand(20, 2, generator=generator)
        sides = 1 + 30 * torch.rand(20, 4, generator=generator)
        boxes = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
        expected = [
            naive_centerness(*pair) for pair in zip(centres.tolist(), boxes.tolist(), strict=True)
        ]
        assert centerness_of(centres, boxes).tolist() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize(
        ("point", "expected"),
        [((10, 20), 1), ((0, 20), 0), ((10, 40), 0), ((5, 20), 3**-0.5), ((5, 10), 1 / 3)],
    )
    def test_falls_from_the_middle_to_the_border(
        self, point: tuple[int, int], expected: float
    ) -> None:
        box = torch.tensor([[0.0, 0, 20, 40]])
        found = centerness_of(torch.tensor([point]).float(), box)
        assert found.tolist() == pytest.approx([expected])

    def test_is_what_its_logit_learns(self, assignment_of: Make) -> None:
        plain = anchored_output()
        assignment = assignment_of(plain, POSITIVES)
        batch, location = assignment.positive.nonzero(as_tuple=True)
        target = centerness_of(plain.locations.centres[location], assignment.boxes[batch, location])
        quality = torch.zeros_like(plain.quality)
        quality[batch, location] = target.logit()
        output = anchored_output(quality=quality)
        for losses in (fcos_losses, atss_losses):
            loss = losses(output, assignment)["centerness"]
            gradient = leaf_gradients(loss, output)["quality"]
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
            assert loss < losses(plain, assignment)["centerness"]

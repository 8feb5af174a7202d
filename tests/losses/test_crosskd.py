"""CrossKD's losses, against its formulas location by location."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from bckd.correspondence import compared
from bckd.geometry import box_similarity
from bckd.losses.crosskd import CrossBCKD, CrossHeadTerm, CrossKD, side_distributions
from bckd.losses.distillation import binary_classification, iou_localisation
from bckd.models.detector import Detector
from bckd.models.supervision import assign
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth
from bckd.teachers.heads import CrossedHeads

Make = Callable[..., Detector]
CLASSES = ("cat", "dog", "bird")
TERMS = (CrossKD, CrossBCKD)


class Fixed:
    """Heads that predict the same whatever the maps are."""

    channels = (4, 4)

    def __init__(self, output: DenseOutput) -> None:
        self.output = output

    def __call__(
        self, pyramid: Sequence[Tensor], adapters: Sequence[nn.Module], batch: Batch | None
    ) -> DenseOutput:
        return self.output


@pytest.fixture
def pair(dense_output: Callable[..., DenseOutput]) -> tuple[DenseOutput, DenseOutput]:
    return dense_output(seed=1), dense_output(seed=2)


@pytest.fixture
def assignment(
    pair: tuple[DenseOutput, DenseOutput], assignment_of: Callable[..., Assignment]
) -> Assignment:
    """Three positives, all on the finer level; two locations are not valid."""
    found = assignment_of(pair[0], {(0, 3): 1, (0, 7): 0, (1, 12): 2})
    valid = found.valid.clone()
    valid[1, 19] = valid[0, 2] = False
    return replace(found, valid=valid)


def value_of(kind: type[CrossHeadTerm], cross: DenseOutput, *rest: object) -> Tensor:
    return kind(cross, cross, Fixed(cross))(cross, *rest, None)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive(cross: DenseOutput, teacher: DenseOutput, assignment: Assignment) -> dict[str, float]:
    """The sums of the paper, one location after the other."""
    sums = dict.fromkeys(("classes", "giou", "divergence", "weight"), 0.0)
    giou = box_similarity(cross.boxes, teacher.boxes, "giou")
    for n, a in product(*map(range, assignment.valid.shape)):
        if not assignment.valid[n, a]:
            continue
        top = 0.0
        for ours, theirs in zip(cross.cls_logits[n, a], teacher.cls_logits[n, a], strict=True):
            p, t = sigmoid(ours.item()), sigmoid(theirs.item())
            top = max(top, t)
            bce = -t * math.log(p) - (1 - t) * math.log(1 - p)
            sums["classes"] += abs(t - p) * bce
        sums["giou"] += top * (1 - giou[n, a].item())
        sums["weight"] += top
        for ours, theirs in zip(cross.box_logits[n, a], teacher.box_logits[n, a], strict=True):
            p, t = ours.softmax(0).tolist(), theirs.softmax(0).tolist()
            divergence = sum(y * math.log(y / x) for x, y in zip(p, t, strict=True))
            sums["divergence"] += top * divergence / 4
    return sums


def test_with_distributions(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    sums = naive(*pair, assignment)
    expected = sums["classes"] / 3 + 4 * sums["divergence"] / sums["weight"]
    assert value_of(CrossKD, *pair, assignment).item() == pytest.approx(expected, rel=1e-5)


def test_without_distributions(
    pair: tuple[DenseOutput, DenseOutput], assignment: Assignment
) -> None:
    sums = naive(*pair, assignment)
    cross, teacher = (replace(x, box_logits=None) for x in pair)
    expected = (sums["classes"] + sums["giou"]) / 3
    found = value_of(CrossKD, cross, teacher, assignment)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_location_by_hand(
    output_of: Callable[..., DenseOutput],
    dense_output: Callable[..., DenseOutput],
    assignment_of: Callable[..., Assignment],
) -> None:
    """Scores 1/2 against 3/4; sides (1/2, 1/2) against (3/4, 1/4): the official code's formulas.

    |3/4 - 1/2| log 2 over one positive, and 4 KL, whose weight 3/4 cancels.
    """
    places = dense_output(shapes=((1, 1),), strides=(8,)).locations
    cross = output_of(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4, 2), places)
    logits = torch.tensor([math.log(3.0), 0.0]).expand(1, 1, 4, 2)
    teacher = output_of(torch.full((1, 1, 1), math.log(3.0)), logits, places)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = 0.25 * math.log(2) + 4 * divergence
    found = value_of(CrossKD, cross, teacher, assignment_of(cross, {(0, 0): 0}))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_with_bckds_losses(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    terms = (binary_classification, iou_localisation)
    l_cls, l_loc = (term(*pair, assignment) for term in terms)
    assert torch.equal(value_of(CrossBCKD, *pair, assignment), l_cls + 4 * l_loc)
    ungated = binary_classification(*pair, assignment, gate_levels=False)
    assert not torch.equal(l_cls, ungated)  # the coarser level has no positive


def test_no_valid_location(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    nothing = replace(assignment, valid=torch.zeros_like(assignment.valid))
    found = side_distributions(*pair, nothing)
    found.backward()
    assert found.item() == 0 and pair[0].box_logits.grad.abs().max() == 0


def learning(tiny_detector: Make, of_student: str, of_teacher: str) -> tuple[Detector, Detector]:
    teacher = tiny_detector(CLASSES, head=of_teacher, head_convs=2, channels=16, seed=1)
    student = tiny_detector(CLASSES, head=of_student, head_convs=2)
    return lively(student), lively(teacher).requires_grad_(False)


def lively(detector: Detector) -> Detector:
    """What its head says depends on the image."""
    with torch.no_grad():
        for layer in (*detector.head.cls_tower, detector.head):
            for module in layer.children():
                if isinstance(module, nn.Conv2d):
                    module.weight *= 10
    return detector


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def truth(count: int = 2) -> GroundTruth:
    """One image with two boxes and a row of padding, one without any."""
    boxes = torch.tensor([[[4.0, 4, 40, 44], [30, 10, 60, 60], [0, 0, 0, 0]]]).repeat(count, 1, 1)
    labels = torch.tensor([[0, 2, -1]]).repeat(count, 1)
    labels[1::2] = -1
    return GroundTruth(boxes, labels, torch.zeros_like(labels, dtype=torch.bool))


def pair_of(
    student: Detector, teacher: Detector, count: int = 2
) -> tuple[DenseOutput, DenseOutput, Assignment]:
    seen = images().repeat(count // 2, 1, 1, 1)
    said = student(seen)
    sizes = torch.tensor([[64, 96], [56, 80]]).repeat(count // 2, 1)
    given = assign(student.config.head, said, truth(count), sizes)
    with torch.no_grad():
        target = teacher(seen)
    return compared(said, target, given)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *((head, head) for head in ("gfl", "retinanet", "fcos", "atss")),
        ("gfl", "retinanet"),
        ("retinanet", "gfl"),
        ("fcos", "gfl"),
        ("gfl", "fcos"),
    ],
)
def test_any_pair_of_families_learns(
    tiny_detector: Make, term: type[CrossHeadTerm], ours: str, theirs: str
) -> None:
    student, teacher = learning(tiny_detector, ours, theirs)
    given = pair_of(student, teacher)
    module = term(*given[:2], CrossedHeads(student, teacher))
    value = module(*given, None)
    value.backward()
    assert value > 0 and value.isfinite()
    assert all(
        x.grad is not None and 0 < x.grad.abs().sum() < math.inf for x in module.parameters()
    )
    pulled = [x.weight.grad.abs().sum() for x in student.neck.output]
    assert 0 < sum(pulled) < math.inf
    if term is CrossKD:  # on all levels
        assert min(pulled) > 0
    assert all(x.grad is None for x in teacher.parameters())
    assert {name for name, _ in module.named_parameters()} == {
        f"adapters.{n}.{kind}" for n in range(2) for kind in ("weight", "bias")
    }
    assert module.adapters[0].weight.shape == (16, 8, 1, 1)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("head", ["gfl", "retinanet"])
def test_least_where_the_student_is_the_teacher(
    tiny_detector: Make, term: type[CrossHeadTerm], head: str
) -> None:
    """Where channels are the same, adapters start as the identity."""
    teacher = lively(tiny_detector(CLASSES, head=head, head_convs=2))
    given = pair_of(teacher, teacher)
    module = term(*given[:2], CrossedHeads(teacher, teacher))
    assert module(*given, None).abs() < 1e-6
    with torch.no_grad():
        for adapter in module.adapters:
            adapter.weight.copy_(adapter.weight.flip(0))
    assert module(*given, None) > 1e-6


@pytest.mark.parametrize("term", TERMS)
def test_a_batch_twice_has_the_same_value(tiny_detector: Make, term: type[CrossHeadTerm]) -> None:
    student, teacher = learning(tiny_detector, "gfl", "gfl")
    module = term(*pair_of(student, teacher)[:2], CrossedHeads(student, teacher))
    once, twice = (module(*pair_of(student, teacher, count), None) for count in (2, 4))
    torch.testing.assert_close(once, twice, rtol=1e-5, atol=0)
    assert torch.equal(module(*pair_of(student, teacher), None), once)


@pytest.mark.parametrize("term", TERMS)
def test_images_without_boxes(tiny_detector: Make, term: type[CrossHeadTerm]) -> None:
    student, teacher = (
        tiny_detector(CLASSES, strides=(8, 16, 32), head_convs=1, seed=n) for n in range(2)
    )
    said, target = student(images()), teacher(images())
    none = GroundTruth(torch.zeros(2, 0, 4), torch.zeros(2, 0).long(), torch.zeros(2, 0).bool())
    given = assign("gfl", said, none, torch.tensor([[64, 96]] * 2))
    module = term(said, target, CrossedHeads(student, teacher))
    value = module(said, target, given, None)
    assert value >= 0 and value.isfinite()
    # At BCKD's gated levels there is nothing without a positive.
    assert (value > 0) == (term is CrossKD)

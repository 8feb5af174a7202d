"""A student's maps through its teacher's head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bckd.models.detector import Detector
from bckd.models.grouped import forward_in_groups
from bckd.models.heads import HEADS
from bckd.normalisation import IMAGENET
from bckd.structures import Batch, DenseOutput, GroundTruth
from bckd.teachers.heads import CrossedHeads, head_of
from bckd.teachers.matching import matched
from bckd.zoo.nanodet import NanoDet

Make = Callable[..., Detector]
CLASSES = ("cat", "dog", "bird")
SAME = (nn.Identity(), nn.Identity())


def images(count: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def lively(detector: Detector) -> Detector:
    """What it says depends on the image, on the level and on every layer."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.copy_(parameter + 0.2 * torch.randn(parameter.shape, generator=generator))
    return detector


def assert_same(found: DenseOutput, expected: DenseOutput) -> None:
    assert found.locations.levels == expected.locations.levels
    ours, theirs = found.per_location(), expected.per_location()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("convs", [1, 2, 4])
@pytest.mark.parametrize("head", HEADS)
def test_of_its_own_maps_a_head_says_what_it_says(
    tiny_detector: Make, head: str, convs: int
) -> None:
    detector = lively(tiny_detector(CLASSES, head=head, head_convs=convs))
    said = detector(images())
    assert_same(CrossedHeads(detector, detector)(said.features, SAME, None), said)


@pytest.mark.parametrize("head", HEADS)
def test_it_is_the_students_start_and_the_teachers_rest(tiny_detector: Make, head: str) -> None:
    """Against the paper's formula, convolution by convolution."""
    student = lively(tiny_detector(CLASSES, head=head, head_convs=3))
    teacher = lively(tiny_detector(CLASSES, head=head, head_convs=2, seed=1))
    maps = student(images()).features
    found = CrossedHeads(student, teacher)(maps, SAME, None)

    def crossed(ours: nn.Sequential, theirs: nn.Sequential) -> list[Tensor]:
        return [theirs[1](ours[1](ours[0](x))) for x in maps]

    ours, theirs = student.head, teacher.head
    logits = [theirs.cls(x) for x in crossed(ours.cls_tower, theirs.cls_tower)]
    rows = [x.permute(0, 2, 3, 1).reshape(2, -1, len(CLASSES)) for x in logits]
    torch.testing.assert_close(found.cls_logits, torch.cat(rows, dim=1))
    theirs.cls_tower, theirs.box_tower = nn.Sequential(), nn.Sequential()
    boxes = theirs.from_maps(maps, crossed(ours.box_tower, teacher_tower(tiny_detector, head)))
    torch.testing.assert_close(found.boxes, boxes.boxes)


def teacher_tower(tiny_detector: Make, head: str) -> nn.Sequential:
    return lively(tiny_detector(CLASSES, head=head, head_convs=2, seed=1)).head.box_tower


@pytest.mark.parametrize("head", HEADS)
def test_as_matched(tiny_detector: Make, head: str) -> None:
    """Another order of classes, one of them left out, and levels that the student lacks."""
    wide = lively(tiny_detector(CLASSES, head=head, strides=(8, 16, 32, 64), head_convs=2))
    names = ("bird", "cat")
    teacher = matched(wide, "teacher", names, (16, 32), IMAGENET)
    student = tiny_detector(names, head=head, strides=(16, 32), head_convs=2)
    student.head.cls_tower, student.head.box_tower = wide.head.cls_tower, wide.head.box_tower
    said = teacher(images())
    assert_same(CrossedHeads(student, teacher)(said.features, SAME, None), said)


def batch_of(canvases: Sequence[tuple[int, int]], pixels: Tensor) -> Batch:
    sizes, count = torch.tensor(canvases), len(canvases)
    return Batch(
        pixels=pixels,
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=tuple(canvases),
        original_sizes=sizes,
        frames=torch.zeros(count, 4),
        ground_truth=GroundTruth.from_lists(
            [torch.zeros(0, 4)] * count, [torch.zeros(0, dtype=torch.long)] * count
        ),
        indices=tuple(range(count)),
        flipped=(False,) * count,
        image_ids=tuple(range(count)),
        file_names=("",) * count,
    )


@pytest.mark.parametrize("head", HEADS)
def test_no_image_sees_the_padding_of_others(tiny_detector: Make, head: str) -> None:
    detector = lively(tiny_detector(CLASSES, head=head, head_convs=2))
    canvases = [(64, 96), (96, 64), (64, 96), (72, 72)]
    seen = images(4, 96, 96)
    said = forward_in_groups(detector, seen, canvases)
    found = CrossedHeads(detector, detector)(said.features, SAME, batch_of(canvases, seen))
    assert_same(found, said)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_student_and_adapters_alone(tiny_detector: Make, head: str) -> None:
    student = lively(tiny_detector(CLASSES, head=head, head_convs=2))
    teacher = lively(tiny_detector(CLASSES, head=head, head_convs=2, channels=16, seed=1))
    heads = CrossedHeads(student, teacher.requires_grad_(False))
    assert heads.channels == (8, 16)
    adapters = [nn.Conv2d(*heads.channels, 1) for _ in range(2)]
    output = heads(student(images()).features, adapters, None)
    (output.cls_logits.sum() + output.boxes.sum()).backward()
    for module in (*adapters, student.backbone, student.neck.output, *heads.starts):
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in module.parameters())
    # The last convolution of the student's towers takes no part, as its predictors don't.
    for module in (student.head.cls_tower[-1], student.head.cls, student.head.box):
        assert all(x.grad is None for x in module.parameters())
    assert all(x.grad is None for x in [*teacher.parameters(), *heads.rest.parameters()])


def test_half_precision_maps(tiny_detector: Make) -> None:
    """Heads compute in the type of the maps, and predict in float32."""
    detector = lively(tiny_detector(CLASSES, head_convs=2))
    maps = detector(images()).features
    heads = CrossedHeads(detector, detector)
    exact, coarse = heads(maps, SAME, None), heads([x.bfloat16() for x in maps], SAME, None)
    assert coarse.cls_logits.dtype == coarse.boxes.dtype == torch.float32
    assert not torch.equal(coarse.cls_logits, exact.cls_logits)
    torch.testing.assert_close(coarse.boxes, exact.boxes, rtol=0.05, atol=4.0)


def test_whose_head_there_is(tiny_detector: Make) -> None:
    detector = tiny_detector(CLASSES)
    reader = matched(detector, "teacher", CLASSES[::-1], (8, 16, 32), IMAGENET)
    assert head_of(detector) is head_of(reader) is detector.head
    assert head_of(NanoDet()) is None


def test_a_head_that_is_cut_stays_whole(tiny_detector: Make) -> None:
    detector = lively(tiny_detector(CLASSES, head_convs=2))
    names, before = set(detector.state_dict()), detector(images())
    CrossedHeads(detector, detector)
    assert set(detector.state_dict()) == names and detector.head.strides == (8, 16, 32)
    assert_same(detector(images()), before)


def test_a_students_start_is_its_own_now(tiny_detector: Make) -> None:
    """It is followed while it learns."""
    student, teacher = (lively(tiny_detector(CLASSES, head_convs=2, seed=n)) for n in range(2))
    output = student(images())
    heads = CrossedHeads(student, teacher)
    before = heads(output.features, SAME, None)
    with torch.no_grad():
        student.head.cls_tower[0][0].weight.mul_(-1)
    after = heads(output.features, SAME, None)
    assert not torch.equal(before.cls_logits, after.cls_logits)
    assert torch.equal(before.boxes, after.boxes)
    assert_same(replace(after, cls_logits=before.cls_logits), before)

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from bckd.assigners.fcos import REACH, assign_fcos
from bckd.geometry import grid
from bckd.structures import Assignment, GroundTruth, Locations

NUM_CLASSES = 4
STRIDES = (8, 16, 32)
SIZE = (160, 224)


def pyramid(
    size: tuple[int, int] = SIZE, strides: tuple[int, ...] = STRIDES, offset: float = 0.5
) -> Locations:
    shapes = [(math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in strides]
    return grid(shapes, strides, offset=offset)


def random_truth(seed: int, counts: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes of all sizes inside images of `SIZE`, many of them one in another."""
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([SIZE[1], SIZE[0]], dtype=torch.float32)
    boxes, labels = [], []
    for count in counts:
        centres = limit * torch.rand(count, 2, generator=generator)
        halves = 4 + 140 * torch.rand(count, 2, generator=generator) ** 2
        low, high = (centres - halves).clamp(min=0), torch.minimum(centres + halves, limit)
        boxes.append(torch.cat([low, high], dim=1))
        labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator))
    return boxes, labels


def sides_of(point: list[float], box: list[float]) -> tuple[float, ...]:
    (x, y), (left, top, right, bottom) = point, box
    return (x - left, y - top, right - x, bottom - y)


def naive_fcos(
    locations: Locations, boxes: list[list[float]], labels: list[int], crowd: list[bool]
) -> tuple[list[int], list[list[float]], list[bool]]:
    """Labels, target boxes and what is counted of one image, point by point."""
    found, targets, counted = [], [], []
    points = iter(locations.centres.tolist())
    for number, level in enumerate(locations.levels):
        lowest = REACH * locations.levels[number - 1].stride if number > 0 else 0
        last = number == len(locations.levels) - 1
        highest = math.inf if last else REACH * level.stride
        for _ in range(level.count):
            point, best, ignored = next(points), None, False
            smallest = math.inf
            for g, box in enumerate(boxes):
                sides = sides_of(point, box)
                if min(sides) <= 0:
                    continue
                size = (box[2] - box[0]) * (box[3] - box[1])
                if crowd[g]:
                    ignored = True
                elif lowest <= max(sides) <= highest and size < smallest:
                    best, smallest = g, size
            found.append(NUM_CLASSES if best is None else labels[best])
            targets.append([0.0] * 4 if best is None else boxes[best])
            counted.append(best is not None or not ignored)
    return found, targets, counted


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64, 128), (8,)])
@pytest.mark.parametrize("seed", [1, 2])
def test_agrees_with_the_naive_loop(strides: tuple[int, ...], seed: int, offset: float) -> None:
    locations = pyramid(strides=strides, offset=offset)
    boxes, labels = random_truth(seed, (9, 1, 5))
    crowd = [torch.zeros(len(x), dtype=torch.bool) for x in labels]
    crowd[0][2] = crowd[2][0] = True
    truth = GroundTruth.from_lists(boxes, labels, crowd)
    found = assign_fcos(locations, truth, NUM_CLASSES)
    positives = 0
    for n in range(3):
        per_box = (boxes[n].tolist(), labels[n].tolist(), crowd[n].tolist())
        expected, targets, counted = naive_fcos(locations, *per_box)
        assert found.labels[n].tolist() == expected
        assert torch.equal(found.boxes[n], torch.tensor(targets))
        assert found.counted[n].tolist() == counted
        positives += sum(label < NUM_CLASSES for label in expected)
    assert positives > 0 and not found.counted.all()
    assert torch.equal(found.positive, found.labels < NUM_CLASSES)
    assert found.num_positives == positives
    assert found.valid.all(), "padding included, as in the official code"
    assert found.localisation_region is None


def assign_one(boxes: list[list[float]], locations: Locations | None = None) -> Assignment:
    """One image whose boxes have the labels 0, 1, ..."""
    truth = GroundTruth.from_lists([torch.tensor(boxes)], [torch.arange(len(boxes))])
    return assign_fcos(locations or pyramid(), truth, NUM_CLASSES)


class TestRanges:
    """Stride 8 reaches 64 pixels, stride 16 from there to 128, stride 32 all beyond."""

    def levels_of(self, box: list[float]) -> list[bool]:
        """On which levels a box has positives."""
        found = assign_one([box]).positive[0]
        return [bool(level.any()) for level in found.split(pyramid().counts)]

    def test_a_box_is_learned_on_the_level_of_its_size(self) -> None:
        assert self.levels_of([50.0, 50, 100, 100]) == [True, False, False]
        assert self.levels_of([50.0, 36, 179, 60]) == [False, True, False]
        assert self.levels_of([0.0, 0, 224, 160]) == [False, True, True]

    def test_both_ends_belong_to_a_range(self) -> None:
        locations = pyramid()
        points = {8: [100.0, 100.0], 16: [104.0, 104.0]}
        for level, (stride, (x, y)) in enumerate(points.items()):
            box = [x - 64, y - 10, x + 20, y + 10]
            wider = [x - 64.01, y - 10, x + 20, y + 10]
            at = (locations.centres == torch.tensor([x, y])).all(1) & (locations.strides == stride)
            assert at.sum() == 1, "the point is one of the level's"
            assert assign_one([box]).positive[0, at].item()
            assert assign_one([wider]).positive[0, at].item() == (level == 1)

    def test_the_border_does_not_belong_to_a_box(self) -> None:
        locations = grid([(2, 2)], [8])  # points at 0 and 8
        assert assign_one([[0.0, 0, 8, 8]], locations).positive.sum() == 0
        assert assign_one([[-1.0, -1, 8, 8]], locations).positive[0].tolist() == [True] + 3 * [
            False
        ]


def test_the_smallest_box_wins_whatever_its_place_in_the_file() -> None:
    large, small = [20.0, 20, 110, 100], [40.0, 40, 80, 80]
    for boxes in ([large, small], [small, large]):
        found = assign_one(boxes)
        points = pyramid().centres[found.positive[0]]
        rows = found.boxes[0, found.positive[0]]
        in_small = ((points > 40) & (points < 80)).all(dim=1)
        assert in_small.any() and not in_small.all()
        assert torch.equal(rows == torch.tensor(small), in_small[:, None].expand(-1, 4))


def test_a_small_box_of_another_level_hides_nothing() -> None:
    # On stride 32 the small box is out of range, so its points there learn the large one.
    large, small = [0.0, 0, 224, 160], [40.0, 40, 80, 80]
    both, alone = assign_one([large, small]), assign_one([large])
    coarse = pyramid().strides == 32
    assert alone.positive[0, coarse].any()
    assert torch.equal(both.boxes[0, coarse], alone.boxes[0, coarse])


def test_of_equal_boxes_the_first_is_taken() -> None:
    box = [40.0, 40, 80, 80]
    found = assign_one([box, box])
    assert set(found.labels[found.positive].tolist()) == {0}


def test_every_point_of_a_positive_lies_in_its_box() -> None:
    boxes, labels = random_truth(4, (6, 3))
    locations = pyramid()
    found = assign_fcos(locations, GroundTruth.from_lists(boxes, labels), NUM_CLASSES)
    for n, a in found.positive.nonzero().tolist():
        sides = sides_of(locations.centres[a].tolist(), found.boxes[n, a].tolist())
        assert min(sides) > 0
        own = (boxes[n] == found.boxes[n, a]).all(dim=1).nonzero().flatten()
        assert found.labels[n, a] in labels[n][own]
    assert not found.boxes[~found.positive].any()


def test_a_batch_is_its_images() -> None:
    boxes, labels = random_truth(5, (5, 0, 2, 1))
    truth = GroundTruth.from_lists(boxes, labels)
    together = assign_fcos(pyramid(), truth, NUM_CLASSES)
    alone = [
        assign_fcos(
            pyramid(),
            GroundTruth.from_lists(boxes[n : n + 1], labels[n : n + 1]),
            NUM_CLASSES,
        )
        for n in range(4)
    ]
    for field in fields(Assignment):
        if field.name not in ("num_positives", "localisation_region", "images_per_group"):
            joined = torch.cat([getattr(one, field.name) for one in alone])
            assert torch.equal(getattr(together, field.name), joined), field.name
    assert together.num_positives == together.positive.sum()
    assert not together.positive[1].any() and together.counted[1].all()


def test_a_batch_without_any_box_divides_by_one() -> None:
    boxes, labels = random_truth(7, (0, 0))
    found = assign_fcos(pyramid(), GroundTruth.from_lists(boxes, labels), NUM_CLASSES)
    assert (found.labels == NUM_CLASSES).all()
    assert found.counted.all() and not found.positive.any() and not found.boxes.any()
    assert found.num_positives == 1


@pytest.mark.parametrize("box", [[40.0, 40, 40, 40], [20.0, 40, 90, 40], [90.0, 90, 30, 30]])
def test_a_box_without_area_gives_nothing(box: list[float]) -> None:
    good = [20.0, 20, 70, 60]
    with_it, without = assign_one([good, box]), assign_one([good])
    assert without.positive.any()
    assert torch.equal(with_it.labels, without.labels)
    assert not assign_one([box]).positive.any()


def test_a_crowd_region_is_ignored_but_its_positives_learn() -> None:
    crowd, box = [0.0, 0, 64, 96], [20.0, 20, 50, 60]
    truth = GroundTruth.from_lists(
        [torch.tensor([crowd, box])], [torch.tensor([3, 0])], [torch.tensor([True, False])]
    )
    found, plain = assign_fcos(pyramid(), truth, NUM_CLASSES), assign_one([box])
    assert torch.equal(found.labels, plain.labels)
    points = pyramid().centres
    inside = (points[:, 0] < 64) & (points[:, 1] < 96)
    assert torch.equal(found.counted[0], ~inside | found.positive[0])
    assert plain.counted.all() and found.positive.any() and found.valid.all()

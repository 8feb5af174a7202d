from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from bckd.assigners.max_iou import NEGATIVE_IOU, POSITIVE_IOU, assign_max_iou
from bckd.geometry import grid, with_anchors
from bckd.models.heads.retinanet import anchor_shapes
from bckd.structures import Assignment, GroundTruth, Locations

NUM_CLASSES = 4
STRIDES = (8, 16, 32)
CROWD_SHARE = 0.5


def pyramid(height: int, width: int, scale: float = 4.0) -> Locations:
    shapes = [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    return with_anchors(grid(shapes, STRIDES), anchor_shapes(scale))


def by_hand(anchors: list[list[float]]) -> Locations:
    """One row of cells of stride 8 with these anchors, whatever the cells."""
    return Locations(
        **{name: getattr(grid([(1, len(anchors))], [8]), name) for name in ("centres", "strides")},
        levels=grid([(1, len(anchors))], [8]).levels,
        anchors=torch.tensor(anchors),
    )


def random_truth(
    seed: int, size: tuple[int, int], counts: tuple[int, ...], clustered: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes inside images of `size`; clustered ones lie about one centre."""
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([size[1], size[0]], dtype=torch.float32)
    boxes, labels = [], []
    for count in counts:
        centres = limit * torch.rand(count, 2, generator=generator)
        if clustered:
            centres = limit / 2 + 6 * torch.randn(count, 2, generator=generator)
        halves = 3 + 0.3 * limit.min() * torch.rand(count, 2, generator=generator)
        low, high = (centres - halves).clamp(min=0), torch.minimum(centres + halves, limit)
        boxes.append(torch.cat([low, high], dim=1))
        labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator))
    return boxes, labels


def intersection(a: np.ndarray, b: np.ndarray) -> np.float32:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, np.float32(0)) * max(height, np.float32(0))


def area(box: np.ndarray) -> np.float32:
    return (box[2] - box[0]) * (box[3] - box[1])


def naive_max_iou(
    anchors: np.ndarray, boxes: np.ndarray, labels: list[int], crowd: list[bool], valid: list[bool]
) -> tuple[list[int], list[list[float]], list[bool]]:
    """Labels, target boxes and what is counted of one image, anchor by anchor.

    In float32, for ties: equal anchors inside a box have one IoU but for the rounding.
    """
    usable = [a for a in range(len(anchors)) if valid[a]]
    iou = [[np.float32(0)] * len(boxes) for _ in anchors]
    for a in usable:
        for g, box in enumerate(boxes):
            if not crowd[g]:
                shared = intersection(anchors[a], box)
                iou[a][g] = shared / (area(anchors[a]) + area(box) - shared)
    owner: list[int | None] = [None] * len(anchors)
    counted = list(valid)
    for a in usable:
        best = max(iou[a], default=0.0)
        if best >= POSITIVE_IOU:
            owner[a] = iou[a].index(best)
        elif best >= NEGATIVE_IOU:
            counted[a] = False
    for g in range(len(boxes)):
        closest = max(iou[a][g] for a in usable)
        for a in usable:
            if closest > 0 and iou[a][g] == closest:
                owner[a], counted[a] = g, True
    for a in usable:
        regions = [box for box, is_crowd in zip(boxes, crowd, strict=True) if is_crowd]
        covered = any(
            intersection(anchors[a], box) > CROWD_SHARE * area(anchors[a]) for box in regions
        )
        if covered and owner[a] is None:
            counted[a] = False
    found = [NUM_CLASSES if g is None else labels[g] for g in owner]
    targets = [[0.0] * 4 if g is None else boxes[g].tolist() for g in owner]
    return found, targets, counted


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("size", [(64, 160), (128, 96), (90, 70)])
@pytest.mark.parametrize("scale", [2.0, 4.0])
def test_agrees_with_the_naive_loop(size: tuple[int, int], clustered: bool, scale: float) -> None:
    locations = pyramid(*size, scale)
    boxes, labels = random_truth(3, size, (6, 1, 4), clustered)
    crowd = [torch.zeros(len(x), dtype=torch.bool) for x in labels]
    crowd[0][2] = crowd[2][0] = True
    padded = torch.tensor([size, size, (size[0] - 20, size[1] - 30)])
    truth = GroundTruth.from_lists(boxes, labels, crowd)
    found = assign_max_iou(locations, truth, padded, NUM_CLASSES)
    kinds = set()
    for n in range(3):
        valid = locations.inside(padded)[n].tolist()
        per_box = (boxes[n].numpy(), labels[n].tolist(), crowd[n].tolist())
        expected, targets, counted = naive_max_iou(locations.anchors.numpy(), *per_box, valid)
        assert found.labels[n].tolist() == expected
        assert torch.equal(found.boxes[n], torch.tensor(targets))
        assert found.counted[n].tolist() == counted
        assert found.valid[n].tolist() == valid
        assert torch.equal(found.positive[n], found.labels[n] < NUM_CLASSES)
        kinds |= {*zip(found.positive[n].tolist(), counted, valid, strict=True)}
    # Positives, background, ignored and outside: the loop has met them all.
    assert kinds == {(True, True, True), (False, True, True), (False, False, True), (False,) * 3}
    assert found.localisation_region is None


BOX = [0.0, 0, 100, 10]
FAR = [500.0, 500, 600, 510]  # a box of its own, so that the anchors under test are not the best


def covering(share: float) -> list[float]:
    """An anchor whose IoU with `BOX` is the share."""
    return [0.0, 0, 100 * share, 10]


@pytest.mark.parametrize(
    ("share", "label", "counted"),
    [
        (0.51, 1, True),
        (0.5, 1, True),
        (0.49, NUM_CLASSES, False),
        (0.41, NUM_CLASSES, False),
        (0.4, NUM_CLASSES, False),
        (0.39, NUM_CLASSES, True),
    ],
)
def test_thresholds(share: float, label: int, counted: bool) -> None:
    locations = by_hand([covering(0.9), covering(share)])
    truth = GroundTruth.from_lists([torch.tensor([BOX])], [torch.tensor([1])])
    found = assign_max_iou(locations, truth, torch.tensor([[8, 16]]), NUM_CLASSES)
    assert found.labels[0].tolist() == [1, label]
    assert found.counted[0].tolist() == [True, counted]


class TestBestAnchorOfABox:
    def assign(self, anchors: list[list[float]], boxes: list[list[float]]) -> Assignment:
        labels = torch.arange(len(boxes))
        truth = GroundTruth.from_lists([torch.tensor(boxes)], [labels])
        padded = torch.tensor([[8, 8 * len(anchors)]])
        return assign_max_iou(by_hand(anchors), truth, padded, NUM_CLASSES)

    @pytest.mark.parametrize("share", [0.45, 0.1, 0.001])
    def test_is_positive_however_little_it_overlaps(self, share: float) -> None:
        found = self.assign([FAR, covering(share), covering(share / 2)], [BOX])
        assert found.labels[0].tolist() == [NUM_CLASSES, 0, NUM_CLASSES]
        assert found.counted.all()
        assert found.num_positives == 1

    def test_all_of_a_tie_are_positive(self) -> None:
        right = [70.0, 0, 100, 10]
        found = self.assign([covering(0.3), right, covering(0.2)], [BOX])
        assert found.positive[0].tolist() == [True, True, False]

    def test_leaves_a_box_that_it_overlaps_more(self) -> None:
        # The anchor is the best of both boxes, and overlaps the first one more.
        anchor, small = covering(0.8), [0.0, 0, 10, 10]
        found = self.assign([anchor], [BOX, small])
        assert found.labels[0].tolist() == [1]
        assert found.boxes[0, 0].tolist() == small

    def test_goes_to_the_last_of_equal_boxes(self) -> None:
        found = self.assign([covering(0.3), covering(0.2)], [BOX, BOX, BOX])
        assert found.labels[0].tolist() == [2, NUM_CLASSES]

    def test_other_anchors_go_to_the_first_of_equal_boxes(self) -> None:
        found = self.assign([covering(0.9), covering(0.7)], [BOX, BOX])
        assert found.labels[0].tolist() == [1, 0]

    def test_a_box_that_no_anchor_touches_takes_none(self) -> None:
        found = self.assign([covering(0.9), covering(0.1)], [BOX, FAR])
        assert found.labels[0].tolist() == [0, NUM_CLASSES]


def assign_all(boxes: list[Tensor], labels: list[Tensor], padded: Tensor) -> Assignment:
    truth = GroundTruth.from_lists(boxes, labels)
    return assign_max_iou(pyramid(96, 128), truth, padded, NUM_CLASSES)


def test_a_batch_is_its_images() -> None:
    boxes, labels = random_truth(5, (96, 128), (5, 0, 2, 1))
    padded = torch.tensor([[96, 128], [96, 128], [80, 128], [64, 64]])
    together = assign_all(boxes, labels, padded)
    alone = [assign_all(boxes[n : n + 1], labels[n : n + 1], padded[n : n + 1]) for n in range(4)]
    assert together.num_positives == sum(one.num_positives for one in alone)
    for field in fields(Assignment):
        if field.name not in ("num_positives", "localisation_region", "images_per_group"):
            joined = torch.cat([getattr(one, field.name) for one in alone])
            assert torch.equal(getattr(together, field.name), joined), field.name


def test_an_image_without_boxes_is_background_and_counts_as_one() -> None:
    boxes, labels = random_truth(6, (96, 128), (3, 0))
    found = assign_all(boxes, labels, torch.tensor([[96, 128]] * 2))
    assert found.positive[0].any() and not found.positive[1].any()
    assert found.counted[1].all()
    assert found.num_positives == found.positive[0].sum() + 1


def test_a_batch_without_any_box() -> None:
    boxes, labels = random_truth(7, (96, 128), (0, 0))
    found = assign_all(boxes, labels, torch.tensor([[96, 128]] * 2))
    assert (found.labels == NUM_CLASSES).all()
    assert found.counted.all() and not found.positive.any() and not found.boxes.any()
    assert found.num_positives == 2


@pytest.mark.parametrize("box", [[40.0, 40, 40, 40], [20.0, 40, 90, 40], [50.0, 10, 30, 60]])
def test_a_box_without_area_gives_nothing(box: list[float]) -> None:
    good = [20.0, 20, 70, 60]
    padded = torch.tensor([[96, 128]])
    with_it = assign_all([torch.tensor([box, good])], [torch.tensor([1, 2])], padded)
    without = assign_all([torch.tensor([good])], [torch.tensor([2])], padded)
    assert without.positive.any()
    assert torch.equal(with_it.labels, without.labels)
    assert torch.equal(with_it.counted, without.counted)
    alone = assign_all([torch.tensor([box])], [torch.tensor([1])], padded)
    assert not alone.positive.any() and alone.counted.all()


def test_a_crowd_region_is_ignored_but_its_positives_learn() -> None:
    locations = pyramid(96, 128)
    crowd, box = [0.0, 0, 64, 96], [20.0, 20, 50, 60]
    padded = torch.tensor([[96, 128]])
    boxes, labels = [torch.tensor([crowd, box])], [torch.tensor([3, 1])]
    truth = GroundTruth.from_lists(boxes, labels, [torch.tensor([True, False])])
    found = assign_max_iou(locations, truth, padded, NUM_CLASSES)
    plain = assign_all([boxes[0][1:]], [labels[0][1:]], padded)
    assert torch.equal(found.labels, plain.labels)
    assert found.positive.any() and found.counted[found.positive].all()
    anchors = locations.anchors.numpy()
    shares = [float(intersection(x, np.float32(crowd)) / area(x)) for x in anchors]
    outside = torch.tensor(shares) <= CROWD_SHARE
    assert torch.equal(found.counted[0], plain.counted[0] & (outside | found.positive[0]))
    assert not torch.equal(found.counted, plain.counted)
    assert found.valid.all(), "distillation still takes place in a crowd region"


def test_padding_takes_no_part() -> None:
    locations = pyramid(96, 128)
    padded = torch.tensor([[64, 96]])
    # The best anchors of the second box all lie in the padding; those inside replace them.
    boxes = torch.tensor([[30.0, 20, 60, 50], [84, 40, 128, 80]])
    found = assign_all([boxes], [torch.tensor([0, 1])], padded)
    outside = ~locations.inside(padded)
    assert outside.any()
    assert torch.equal(found.valid, ~outside)
    for values in (found.counted, found.positive):
        assert not values[outside].any()
    assert (found.labels == 1).any()

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from bckd.assigners.atss import CANDIDATES_PER_LEVEL, VLR_LOWER, assign_atss
from bckd.geometry import grid, with_anchors
from bckd.structures import Assignment, GroundTruth, Locations

NUM_CLASSES = 4
STRIDES = (8, 16, 32)


def pyramid(height: int, width: int, scale: float = 8.0) -> Locations:
    shapes = [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    return with_anchors(grid(shapes, STRIDES), [(scale, scale)])


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
        halves = 4 + 0.3 * limit.min() * torch.rand(count, 2, generator=generator)
        low, high = (centres - halves).clamp(min=0), torch.minimum(centres + halves, limit)
        boxes.append(torch.cat([low, high], dim=1))
        labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator))
    return boxes, labels


def overlap(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Intersection, IoU and DIoU of two boxes."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    gap = math.dist(((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2))
    diagonal = math.dist((min(a[0], b[0]), min(a[1], b[1])), (max(a[2], b[2]), max(a[3], b[3])))
    return shared, shared / union, shared / union - gap**2 / diagonal**2


def naive_atss(
    locations: Locations, boxes: Tensor, labels: Tensor, valid: list[bool]
) -> tuple[list[int], list[float]]:
    """ATSS and the paper's VLR for one image, as the papers tell it: loop by loop."""
    centres, anchors = locations.centres.tolist(), locations.anchors.tolist()
    result, best = [NUM_CLASSES] * len(centres), [0.0] * len(centres)
    region = [0.0] * len(centres)
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        candidates, start = [], 0
        for count in locations.counts:
            usable = [a for a in range(start, start + count) if valid[a]]
            usable.sort(key=lambda a: math.dist(centres[a], middle))
            candidates += usable[:CANDIDATES_PER_LEVEL]
            start += count
        overlaps = [overlap(anchors[a], box)[1] for a in candidates]
        mean = sum(overlaps) / len(overlaps)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in overlaps) / (len(overlaps) - 1))
        threshold = mean + deviation
        for a, iou in zip(candidates, overlaps, strict=True):
            (x, y), inside = centres[a], 0.01
            if min(x - box[0], y - box[1], box[2] - x, box[3] - y) <= inside:
                continue
            if iou >= threshold and iou > best[a]:
                result[a], best[a] = label, iou
        for a, anchor in enumerate(anchors):
            _, iou, diou = overlap(anchor, box)
            if valid[a] and VLR_LOWER * threshold <= diou < threshold:
                region[a] = max(region[a], iou)
    return result, region


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("size", [(64, 160), (128, 96), (96, 96)])
@pytest.mark.parametrize("scale", [2.0, 8.0])
def test_agrees_with_the_naive_loop(size: tuple[int, int], clustered: bool, scale: float) -> None:
    locations = pyramid(*size, scale)
    boxes, labels = random_truth(3, size, (6, 1, 4), clustered)
    padded = torch.tensor([size, size, (size[0] - 20, size[1] - 30)])
    found = assign_atss(
        locations, GroundTruth.from_lists(boxes, labels), padded, NUM_CLASSES, "paper"
    )
    positives = 0
    for n in range(3):
        valid = locations.inside(padded)[n].tolist()
        expected, region = naive_atss(locations, boxes[n], labels[n], valid)
        assert found.labels[n].tolist() == expected
        torch.testing.assert_close(
            found.localisation_region[n], torch.tensor(region), atol=1e-5, rtol=1e-5
        )
        positives += sum(label < NUM_CLASSES for label in expected)
    assert positives > 0
    assert found.positive.sum() == positives


def test_positive_locations_learn_the_box_they_lie_in() -> None:
    locations = pyramid(96, 160)
    boxes, labels = random_truth(4, (96, 160), (5, 3))
    found = assign_atss(
        locations,
        GroundTruth.from_lists(boxes, labels),
        torch.tensor([[96, 160]] * 2),
        NUM_CLASSES,
    )
    assert found.positive.any(dim=1).all()
    for n, a in found.positive.nonzero().tolist():
        own = (boxes[n] == found.boxes[n, a]).all(dim=1).nonzero().flatten()
        assert found.labels[n, a] in labels[n][own]
        x, y = locations.centres[a]
        low_x, low_y, high_x, high_y = found.boxes[n, a]
        assert low_x < x < high_x and low_y < y < high_y
    assert not found.boxes[~found.positive].any()
    assert (found.labels[~found.positive] == NUM_CLASSES).all()
    assert found.localisation_region is None


def assign_all(boxes: list[Tensor], labels: list[Tensor], padded: Tensor) -> Assignment:
    truth = GroundTruth.from_lists(boxes, labels)
    return assign_atss(pyramid(96, 128, 4.0), truth, padded, NUM_CLASSES, "official")


def test_a_batch_is_its_images() -> None:
    boxes, labels = random_truth(5, (96, 128), (5, 0, 2, 1))
    padded = torch.tensor([[96, 128], [96, 128], [80, 128], [64, 64]])
    together = assign_all(boxes, labels, padded)
    alone = [assign_all(boxes[n : n + 1], labels[n : n + 1], padded[n : n + 1]) for n in range(4)]
    assert together.num_positives == sum(one.num_positives for one in alone)
    for field in fields(Assignment):
        if field.name not in ("num_positives", "images_per_group"):
            joined = torch.cat([getattr(one, field.name) for one in alone])
            assert torch.equal(getattr(together, field.name), joined), field.name


def test_an_image_without_boxes_is_background_and_counts_as_one() -> None:
    boxes, labels = random_truth(6, (96, 128), (3, 0))
    found = assign_all(boxes, labels, torch.tensor([[96, 128]] * 2))
    assert not found.positive[1].any()
    assert found.counted[1].all()
    assert not found.localisation_region[1].any()
    assert found.num_positives == found.positive[0].sum() + 1


def test_a_batch_without_any_box() -> None:
    boxes, labels = random_truth(7, (96, 128), (0, 0))
    found = assign_all(boxes, labels, torch.tensor([[96, 128]] * 2))
    assert (found.labels == NUM_CLASSES).all()
    assert found.counted.all() and not found.positive.any()
    assert not found.boxes.any() and not found.localisation_region.any()
    assert found.num_positives == 2


@pytest.mark.parametrize("box", [[40.0, 40, 40, 40], [20.0, 40, 90, 40], [50.0, 10, 30, 60]])
def test_a_box_without_area_gives_nothing(box: list[float]) -> None:
    good = [20.0, 20, 70, 60]
    padded = torch.tensor([[96, 128]])
    with_it = assign_all([torch.tensor([box, good])], [torch.tensor([1, 2])], padded)
    without = assign_all([torch.tensor([good])], [torch.tensor([2])], padded)
    assert without.positive.any()
    assert torch.equal(with_it.labels, without.labels)
    assert torch.equal(with_it.localisation_region, without.localisation_region)
    alone = assign_all([torch.tensor([box])], [torch.tensor([1])], padded)
    assert not alone.positive.any() and not alone.localisation_region.any()


def test_a_crowd_region_is_ignored_but_its_positives_learn() -> None:
    locations = pyramid(96, 128, 2.0)
    crowd, box = [0.0, 0, 64, 96], [20.0, 20, 50, 60]
    padded = torch.tensor([[96, 128]])
    boxes, labels = [torch.tensor([crowd, box])], [torch.tensor([3, 1])]
    truth = GroundTruth.from_lists(boxes, labels, [torch.tensor([True, False])])
    found = assign_atss(locations, truth, padded, NUM_CLASSES, "official")
    plain_truth = GroundTruth.from_lists([boxes[0][1:]], [labels[0][1:]])
    plain = assign_atss(locations, plain_truth, padded, NUM_CLASSES, "official")

    assert torch.equal(found.labels, plain.labels)
    assert torch.equal(found.localisation_region, plain.localisation_region)
    assert found.positive.any() and found.counted[found.positive].all()
    anchors = locations.anchors.tolist()
    shares = [overlap(anchor, crowd)[0] / (anchor[2] - anchor[0]) ** 2 for anchor in anchors]
    positive = found.positive[0].tolist()
    expected = [share <= 0.5 or own for share, own in zip(shares, positive, strict=True)]
    assert found.counted[0].tolist() == expected
    assert not all(expected)
    assert found.valid.all(), "distillation still takes place in a crowd region"


def test_padding_takes_no_part() -> None:
    locations = pyramid(96, 128, 4.0)
    padded = torch.tensor([[64, 96]])
    truth = GroundTruth.from_lists([torch.tensor([[60.0, 40, 100, 70]])], [torch.tensor([0])])
    found = assign_atss(locations, truth, padded, NUM_CLASSES, "official")
    outside = ~locations.inside(padded)
    assert outside.any() and found.positive.any()
    assert torch.equal(found.valid, ~outside)
    for values in (found.counted, found.positive, found.localisation_region):
        assert not values[outside].any()


def test_regions_agree_where_the_anchor_contains_the_box() -> None:
    locations = pyramid(96, 128, 4.0)
    box = torch.tensor([40.0, 30, 75, 62])
    truth = GroundTruth.from_lists([box[None]], [torch.tensor([0])])
    padded = torch.tensor([[96, 128]])
    paper, official = (
        assign_atss(locations, truth, padded, NUM_CLASSES, kind).localisation_region[0]
        for kind in ("paper", "official")
    )
    anchors = locations.anchors
    contains = (anchors[:, :2] <= box[:2]).all(1) & (anchors[:, 2:] >= box[2:]).all(1)
    assert paper[contains].any()
    torch.testing.assert_close(paper[contains], official[contains])
    assert not torch.equal(paper, official)


@pytest.mark.parametrize(("margin", "positives"), [(0.005, 1), (0.02, 4)])
def test_a_centre_at_the_border_of_a_box_is_not_inside(margin: float, positives: int) -> None:
    """By a hundredth of a pixel, as in the official assigner.

    Four locations, 0 and 8 pixels along both sides; their anchors contain the box alike.
    """
    locations = with_anchors(grid([(2, 2)], [8]), [(8.0, 8.0)])
    box = torch.tensor([[-4.0, -4.0, 8 + margin, 8 + margin]])
    truth = GroundTruth.from_lists([box], [torch.tensor([0])])
    found = assign_atss(locations, truth, torch.tensor([[16, 16]]), NUM_CLASSES)
    assert found.positive.sum() == positives
    assert found.positive[0, 0]

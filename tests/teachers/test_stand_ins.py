"""What a teacher finds, in the place of labels: its detections, image by image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.geometry import box_similarity, grid
from bckd.models.postprocess import PostProcess, postprocess
from bckd.structures import DenseOutput, GroundTruth
from bckd.teachers import stand_ins
from bckd.teachers.stand_ins import LEAST_SCORE, NMS_IOU, with_stand_ins

SIZES = torch.tensor([[60, 100], [64, 90], [40, 40]])
SETTINGS = PostProcess(score_threshold=LEAST_SCORE, nms_iou=NMS_IOU)


def output(quality: bool, seed: int = 0) -> DenseOutput:
    """Three images; crowds of boxes around a few places, each location of one class at most."""
    generator = torch.Generator().manual_seed(seed)
    locations = grid([(8, 13), (4, 7)], [8, 16])
    count = len(locations.centres)
    middle = torch.randint(10, 60, (3, count, 1), generator=generator) // 20 * 20.0
    corners = middle + torch.randn(3, count, 2, generator=generator)
    sides = 25 + 3 * torch.randn(3, count, 2, generator=generator)
    logits = torch.full((3, count, 4), -8.0)
    labels = torch.randint(4, (3, count, 1), generator=generator)
    logits.scatter_(2, labels, torch.randn(3, count, 1, generator=generator))
    return DenseOutput(
        logits,
        torch.cat([corners, corners + sides], dim=-1),
        locations,
        quality=torch.randn(3, count, generator=generator) + 2 if quality else None,
    )


def rows(truth: GroundTruth, image: int) -> list[tuple[float, ...]]:
    """Class and corners of each box of an image that is there."""
    there = truth.labels[image] >= 0
    pairs = zip(
        truth.labels[image][there].tolist(), truth.boxes[image][there].tolist(), strict=True
    )
    return [(label, *(round(x, 3) for x in box)) for label, box in pairs]


def truth(labelled: list[bool]) -> GroundTruth:
    """A box, and a crowd region, on each image that is labelled."""
    boxes = [torch.tensor([[1.0, 2, 30, 40], [5, 5, 50, 50]])[: 2 * known] for known in labelled]
    labels = [torch.tensor([3, 1])[: 2 * known] for known in labelled]
    crowd = [torch.tensor([False, True])[: 2 * known] for known in labelled]
    whole = GroundTruth.from_lists(boxes, labels, crowd)
    return replace(whole, labelled=torch.tensor(labelled))


@pytest.mark.parametrize("quality", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_what_the_teacher_detects(quality: bool, seed: int) -> None:
    said = output(quality, seed)
    known = truth([False, True, False])
    found = with_stand_ins(known, said, SIZES)
    assert found.labelled is None
    detections = postprocess(said, SIZES, SETTINGS)
    for image in (0, 2):
        one = detections[image]
        solid = (one.boxes[:, 2:] > one.boxes[:, :2]).all(dim=1) & (one.scores >= LEAST_SCORE)
        pairs = zip(one.labels[solid].tolist(), one.boxes[solid].tolist(), strict=True)
        expected = [(label, *(round(x, 3) for x in box)) for label, box in pairs]
        assert rows(found, image) == expected and len(expected) > 3
        assert not found.crowd[image].any()
    assert rows(found, 1) == rows(known, 1)
    assert found.crowd[1].tolist() == [False, True] + [False] * (found.crowd.shape[1] - 2)
    assert not found.boxes[found.labels < 0].any()


def naive_kept(boxes: Tensor, labels: Tensor, found: Tensor) -> list[bool]:
    kept: list[bool] = []
    for n, box in enumerate(boxes):
        rivals = [m for m in range(n) if kept[m] and labels[m] == labels[n]]
        hidden = any(box_similarity(boxes[m], box) > NMS_IOU for m in rivals)
        kept.append(bool(found[n]) and not hidden)
    return kept


def test_a_chain_of_boxes() -> None:
    """Each hides the next one, if it stays itself: every second one does."""
    steps = torch.arange(9.0)[:, None] * torch.tensor([4.0, 0, 4, 0])
    boxes = torch.tensor([0.0, 0, 20, 20]) + steps
    labels, found = torch.zeros(9, dtype=torch.long), torch.ones(9, dtype=torch.bool)
    expected = naive_kept(boxes, labels, found)
    assert expected == [n % 2 == 0 for n in range(9)]
    assert stand_ins._kept(boxes[None], labels[None], found[None])[0].tolist() == expected


def test_a_teacher_that_finds_nothing() -> None:
    said = output(quality=False)
    blind = replace(said, cls_logits=said.cls_logits - 20)
    found = with_stand_ins(truth([False] * 3), blind, SIZES)
    assert not found.objects.any() and not found.boxes.any()

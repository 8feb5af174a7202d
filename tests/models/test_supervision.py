from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
import torch

from bckd.assigners import assign_atss, assign_fcos, assign_max_iou
from bckd.geometry import grid, with_anchors
from bckd.models.detector import HeadName
from bckd.models.heads import atss, fcos, gfl, retinanet
from bckd.models.heads.atss import atss_losses
from bckd.models.heads.fcos import fcos_losses
from bckd.models.heads.gfl import gfl_losses
from bckd.models.heads.retinanet import retinanet_losses
from bckd.models.supervision import assign, supervised_losses
from bckd.recipes import LossWeights
from bckd.structures import Assignment, DenseOutput, GroundTruth

HEADS: tuple[HeadName, ...] = get_args(HeadName)
NUM_CLASSES = 3
STRIDES = (8, 16)
SHAPES = ((8, 12), (4, 6))
PADDED = torch.tensor([[64, 96], [48, 64]])
TERMS = {
    "gfl": {"qfl", "giou", "dfl"},
    "retinanet": {"focal", "l1"},
    "fcos": {"focal", "log_iou", "centerness"},
    "atss": {"focal", "giou", "centerness"},
}


def output_of(head: HeadName) -> DenseOutput:
    """Random output of two images, decoded by the head."""
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int) -> list[torch.Tensor]:
        return [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]

    match head:
        case "gfl":
            return gfl.decode(maps(NUM_CLASSES), maps(4 * 9), STRIDES, anchor_scale=3.0)
        case "retinanet":
            return retinanet.decode(maps(9 * NUM_CLASSES), maps(36), STRIDES)
        case "fcos":
            distances = [x.exp() for x in maps(4)]
            return fcos.decode(maps(NUM_CLASSES), distances, maps(1), STRIDES)
        case "atss":
            return atss.decode(maps(NUM_CLASSES), maps(4), maps(1), STRIDES, anchor_scale=3.0)


def truth() -> GroundTruth:
    first = torch.tensor([[10.0, 12, 44, 46], [50, 4, 90, 60]])
    second = torch.tensor([[4.0, 4, 30, 40]])
    return GroundTruth.from_lists([first, second], [torch.tensor([0, 2]), torch.tensor([1])])


def same(one: Assignment, other: Assignment) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all(a is b if a is None else torch.equal(a, b) for a, b in pairs)


def test_each_family_has_its_own_assigner() -> None:
    expected = {
        "gfl": lambda *known: assign_atss(*known, PADDED, NUM_CLASSES),
        "retinanet": lambda *known: assign_max_iou(*known, PADDED, NUM_CLASSES),
        "fcos": lambda *known: assign_fcos(*known, NUM_CLASSES),
        "atss": lambda *known: assign_atss(*known, PADDED, NUM_CLASSES),
    }
    assert expected.keys() == set(HEADS)
    for head, assigner in expected.items():
        output = output_of(head)
        found = assign(head, output, truth(), PADDED)
        assert same(found, assigner(output.locations, truth())), head
        assert found.positive.any(dim=1).all(), head


@pytest.mark.parametrize("kind", ["official", "paper"])
def test_the_region_is_computed_where_asked_for(kind: str) -> None:
    for head in HEADS:
        output = output_of(head)
        assert assign(head, output, truth(), PADDED).localisation_region is None
        region = assign(head, output, truth(), PADDED, kind).localisation_region
        if head in ("gfl", "atss"):
            wanted = assign_atss(output.locations, truth(), PADDED, NUM_CLASSES, kind)
            assert region.any() and torch.equal(region, wanted.localisation_region)
        else:
            assert region is None


def test_each_family_has_its_own_losses() -> None:
    expected = {
        "gfl": gfl_losses,
        "retinanet": retinanet_losses,
        "fcos": fcos_losses,
        "atss": atss_losses,
    }
    weighted = {field.name for field in fields(LossWeights)}
    for head, losses in expected.items():
        output = output_of(head)
        assignment = assign(head, output, truth(), PADDED)
        found = supervised_losses(head, output, assignment)
        assert found == losses(output, assignment), head
        assert found.keys() == TERMS[head] and found.keys() <= weighted, head
        assert all(value.shape == () and value > 0 for value in found.values()), head


def test_the_divisor_is_gfls_alone() -> None:
    for head in HEADS:
        output = output_of(head)
        assignment = assign(head, output, truth(), PADDED)
        plain, other = (supervised_losses(head, output, assignment, d) for d in ("gfl", "bckd"))
        assert (plain == other) == (head != "gfl")
        if head == "gfl":
            assert other == gfl_losses(output, assignment, "bckd")


def test_anchors_of_one_cell_may_learn_different_boxes() -> None:
    # What sets RetinaNet's assigner apart: several locations a cell.
    locations = with_anchors(grid([(1, 1)], [8]), [(4.0, 1.0), (1.0, 4.0)])
    boxes = [torch.tensor([[-16.0, -4, 16, 4], [-4.0, -16, 4, 16]])]
    output = DenseOutput(torch.zeros(1, 2, NUM_CLASSES), torch.zeros(1, 2, 4), locations)
    known = GroundTruth.from_lists(boxes, [torch.tensor([1, 2])])
    found = assign("retinanet", output, known, torch.tensor([[8, 8]]))
    assert found.labels.tolist() == [[1, 2]]

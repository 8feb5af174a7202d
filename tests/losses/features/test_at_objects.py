"""Which cells are an object's; DeFeat, FGD and fine-grained imitation, which tell them apart.

By loops from the papers' formulas, and with the values that published code gives for the same maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.geometry import grid, with_anchors
from bckd.losses.features.defeat import Decoupled
from bckd.losses.features.fgd import FocalAndGlobal
from bckd.losses.features.fine_grained import FineGrained, near_objects
from bckd.losses.features.objects import object_cells, object_cells_inside
from bckd.structures import Batch, DenseOutput, Level, Locations
from tests.losses.features.cases import BOXES, Pair, adapted, assigned, batch_of, wave

SHAPES = ((4, 5), (2, 3))


@pytest.fixture
def pair(dense_output: Callable[..., DenseOutput]) -> Pair:
    """A student of 3 channels and a teacher of 4."""

    def of(seed: int, channels: int) -> DenseOutput:
        generator = torch.Generator().manual_seed(seed)
        maps = [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]
        return replace(dense_output(seed=seed), features=tuple(maps))

    return of(0, 3), of(1, 4)


class TestCells:
    LEVEL = Level(8, 4, 5)

    def test_of_fgd(self) -> None:
        """Rounded outwards, and one more."""
        cells = object_cells(batch_of(BOXES).ground_truth, self.LEVEL)
        expected = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
        expected[0, 0, 0:4, 0:4] = True  # rows 2/8 to 30/8, columns 3/8 to 18/8
        expected[0, 1, 1:3, 1:3] = True
        expected[1, 0, 0:3, 2:5] = True
        assert torch.equal(cells.inside, expected)

    def test_of_defeat(self) -> None:
        """Rounded downwards, the last left out; one at least."""
        cells = object_cells_inside(batch_of(BOXES).ground_truth, self.LEVEL)
        expected = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
        expected[0, 0, 0:3, 0:2] = True
        expected[0, 1, 1, 1] = True
        expected[1, 0, 0:1, 2:4] = True
        assert torch.equal(cells.inside, expected)

    def test_the_smallest_object_of_a_cell_counts(self) -> None:
        cells = object_cells(batch_of(BOXES).ground_truth, self.LEVEL)
        # 0 to 4 and 0 to 3, both ends counted, though the map has 4 rows; 1 to 2 both ways.
        assert cells.scale[0, 0, 0].item() == pytest.approx(1 / (5 * 4))
        assert cells.scale[0, 1, 1].item() == pytest.approx(1 / 4)
        assert cells.scale[0, 3, 4] == 0

    @pytest.mark.parametrize("cells_of", [object_cells, object_cells_inside])
    def test_crowds_and_padding_are_no_objects(self, cells_of: Callable[..., object]) -> None:
        truth = batch_of(BOXES).ground_truth
        crowd = torch.tensor([[True, False], [False, False]])
        inside = cells_of(replace(truth, crowd=crowd), self.LEVEL).inside
        assert not inside[0, 0].any() and inside[0, 1].any()
        assert not inside[1, 1].any()


def test_defeat_by_loops(pair: Pair) -> None:
    term, batch = Decoupled(*pair), batch_of(BOXES)
    expected = 0.0
    for level, (ours, theirs) in zip(pair[0].locations.levels, adapted(term, pair), strict=True):
        objects = set()
        for image, boxes in enumerate(BOXES):
            for x1, y1, x2, y2 in boxes:
                left, top, right, bottom = (int(v / level.stride) for v in (x1, y1, x2, y2))
                for row in range(top, max(bottom, top + 1)):
                    objects |= {(image, row, x) for x in range(left, max(right, left + 1))}
        every = {
            (n, y, x) for n in range(2) for y in range(level.height) for x in range(level.width)
        }
        for weight, cells in ((4, objects & every), (16, every - objects)):
            assert cells
            for n, y, x in cells:
                rows = ours[n, :, y, x].tolist(), theirs[n, :, y, x].tolist()
                gaps = [(a - b) ** 2 for a, b in zip(*rows, strict=True)]
                expected += weight * sum(gaps) / (2 * len(gaps) * len(cells)) / len(SHAPES)
    found = term(*pair, assigned(pair[0]), batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_fgd_by_loops(pair: Pair) -> None:
    """Cell by cell, with both sides' relations as the term's own layers give them."""
    term, batch = FocalAndGlobal(*pair), batch_of(BOXES)
    with torch.no_grad():  # as if they had learnt
        for n, parameter in enumerate(term.parameters()):
            parameter.add_(wave(n, *parameter.shape) / 4)
    expected = 0.0
    for n, (ours, theirs) in enumerate(adapted(term, pair)):
        cells = object_cells(batch.ground_truth, pair[0].locations.levels[n])
        channels, (height, width) = ours.shape[1], ours.shape[2:]
        relation = term.relations[n](ours) - term.teachers_relations[n](theirs)
        for image in range(2):
            spatial, channel = attention(theirs[image])
            own_spatial, own_channel = attention(ours[image])
            outside = height * width - cells.any[image].sum().item()
            for y in range(height):
                for x in range(width):
                    inside = cells.any[image, y, x]
                    weight = 1e-3 * cells.scale[image, y, x] if inside else 5e-4 / outside
                    for c in range(channels):
                        gap = (ours[image, c, y, x] - theirs[image, c, y, x]) ** 2
                        expected += float(weight * spatial[y][x] * channel[c] * gap) / 2
                    expected += 5e-4 * abs(spatial[y][x] - own_spatial[y][x]) / 2
            gaps = [abs(a - b) for a, b in zip(channel, own_channel, strict=True)]
            expected += 5e-4 * sum(gaps) / 2
            expected += 5e-6 * relation[image].square().sum().item() / 2
    found = term(*pair, assigned(pair[0]), batch)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def attention(x: Tensor) -> tuple[list[list[float]], list[float]]:
    """FGD's of one image (C, H, W), from the paper's equations 3 and 4 alone."""
    channels, height, width = x.shape
    cells = [[math.exp(x[:, i, j].abs().mean() / 0.5) for j in range(width)] for i in range(height)]
    each = [math.exp(x[c].abs().mean() / 0.5) for c in range(channels)]
    whole = sum(map(sum, cells))
    spatial = [[height * width * value / whole for value in row] for row in cells]
    return spatial, [channels * value / sum(each) for value in each]


def test_fgds_relation_begins_as_the_map_itself(pair: Pair) -> None:
    term = FocalAndGlobal(*pair)
    for relations in (term.relations, term.teachers_relations):
        assert torch.equal(relations[0](pair[1].features[0]), pair[1].features[0])


class TestFineGrained:
    def test_by_loops(self, pair: Pair) -> None:
        term, places = FineGrained(*pair), pair[0].locations
        half = 4.0 * places.strides[:, None]  # squares of eight strides
        anchors = torch.cat([places.centres - half, places.centres + half], dim=1)
        near = torch.zeros(2, len(anchors), dtype=torch.bool)
        for image, boxes in enumerate(BOXES):
            for box in boxes:
                overlaps = [overlap(box, anchor) for anchor in anchors.tolist()]
                near[image] |= torch.tensor([x > 0.5 * max(overlaps) for x in overlaps])
        expected, start = 0.0, 0
        for ours, theirs in adapted(term, pair):
            cells = ours[0, 0].numel()
            mask = near[:, start : start + cells].view(2, 1, *ours.shape[2:])
            expected += ((ours - theirs).square() * mask).sum().item() / (2 * near.sum().item())
            start += cells
        assert 0 < near.sum() < near.numel()
        found = term(*pair, assigned(pair[0]), batch_of(BOXES))
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_an_object_is_imitated_where_anchors_have_its_size(self) -> None:
        places = with_anchors(grid(((12, 12), (6, 6)), (8, 16)), [(2.0, 2.0)])
        small, large = [40.0, 40.0, 56.0, 56.0], [32.0, 32.0, 64.0, 64.0]
        for box, level in ((small, 0), (large, 1)):
            masks = near_objects(places, batch_of([[box]], 96, 96).ground_truth)
            assert [bool(mask.any()) for mask in masks] == [level == 0, level == 1]

    def test_crowds_and_padding_are_no_objects(self, pair: Pair) -> None:
        truth = batch_of(BOXES).ground_truth  # the second image has one box, and a row of padding
        crowd = torch.tensor([[False, False], [True, False]])
        boxes = torch.where(truth.labels[..., None] < 0, 16.0, truth.boxes)
        boxes[1, 1, 2:] = 32.0
        masks = near_objects(pair[0].locations, replace(truth, boxes=boxes, crowd=crowd))
        assert [bool(mask[0].any()) for mask in masks] == [True, False]
        assert not any(mask[1].any() for mask in masks)

    def test_several_anchors_of_a_cell_are_one_place(self, pair: Pair) -> None:
        places = with_anchors(pair[0].locations, [(1.0, 1.0), (8.0, 8.0)])
        masks = near_objects(places, batch_of(BOXES).ground_truth)
        assert [mask.shape for mask in masks] == [(2, *shape) for shape in SHAPES]
        assert masks[0].any()


def overlap(a: list[float], b: list[float]) -> float:
    sides = [min(a[n + 2], b[n + 2]) - max(a[n], b[n]) for n in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


class TestPublishedCode:
    """What the arithmetic of published code gives for these maps, boxes and starting weights.

    Run once apart from this package: yzd-v/FGD at 04900ad, mmdet/distillation/losses/fgd.py with
    the weights of its configuration of GFL, but for rows and columns of the mask, which are in
    their place (as it stands it gives .0482060); ggjy/DeFeat.pytorch at cebb825,
    mmdet/apis/train.py and anchor_head.py with the weights 4 and 16 and one level;
    twangnh/Distilling-Object-Detectors at 981eb8c, trainval_net_sup.py and anchor_target_layer.py.
    """

    @pytest.fixture
    def batch(self) -> Batch:
        boxes = [[[3.0, 10, 30, 22], [9.0, 9, 15, 15]], [[20.0, 1, 44, 40]]]
        return batch_of(boxes, 48, 48)

    def pair(self, locations: Locations) -> Pair:
        maps = 2 * wave(0, 2, 4, 6, 6), 2 * wave(5, 2, 4, 6, 6, step=0.7)
        count = len(locations.centres)
        said = torch.zeros(2, count, 3), torch.zeros(2, count, 4)
        student, teacher = (DenseOutput(*said, locations, features=(x,)) for x in maps)
        return student, teacher

    def test_fgd(self, batch: Batch) -> None:
        pair = self.pair(grid(((6, 6),), (8,)))
        found = FocalAndGlobal(*pair)(*pair, assigned(pair[0]), batch)
        assert found.item() == pytest.approx(0.0481168, rel=1e-5)

    def test_defeat(self, batch: Batch) -> None:
        pair = self.pair(grid(((6, 6),), (8,)))
        found = Decoupled(*pair)(*pair, assigned(pair[0]), batch)
        assert found.item() == pytest.approx(39.80258, rel=1e-6)

    def test_fine_grained(self, batch: Batch) -> None:
        shapes = [(2.0, 2.0), (4.0, 4.0), (3.0, 1.5)]
        pair = self.pair(with_anchors(grid(((6, 6),), (8,)), shapes))
        found = FineGrained(*pair)(*pair, assigned(pair[0]), batch)
        assert found.item() == pytest.approx(8.002012, rel=1e-6)

"""General instance distillation: which boxes are chosen, and what is compared inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from bckd.geometry import grid
from bckd.losses.features.general_instance import GeneralInstances, general_instances
from bckd.structures import Assignment, DenseOutput
from tests.losses.features.cases import Pair, adapted, assigned, batch_of

SHAPES, STRIDES = ((16, 20), (8, 10)), (8, 16)
SIZES = torch.tensor([[128, 150], [110, 160]])  # height and width; the canvas has 128 x 160


def said(seed: int, channels: int) -> DenseOutput:
    """Random scores, maps and boxes about each location, some of them small, some beyond."""
    generator = torch.Generator().manual_seed(seed)
    locations = grid(SHAPES, STRIDES)
    count = len(locations.centres)
    sides = torch.rand(2, count, 2, generator=generator) * 6 * locations.strides[:, None]
    boxes = torch.cat([locations.centres - sides, locations.centres + sides], dim=-1)
    logits = 2 * torch.randn(2, count, 3, generator=generator)
    maps = [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]
    return DenseOutput(logits, boxes, locations, features=tuple(maps))


@pytest.fixture
def pair() -> Pair:
    """A student of 3 channels and a teacher of 4."""
    return said(0, 3), said(1, 4)


def everywhere(output: DenseOutput) -> Tensor:
    return torch.ones(output.cls_logits.shape[:2], dtype=torch.bool)


def candidates(pair: Pair, image: int, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes and gaps of an image's locations, one by one."""
    student, teacher = pair
    height, width = SIZES[image].tolist()
    boxes, gaps = [], []
    for n in range(len(student.locations.centres)):
        p, q = (x.cls_logits[image, n].sigmoid().tolist() for x in (student, teacher))
        x1, y1, x2, y2 = (teacher if max(q) > max(p) else student).boxes[image, n].tolist()
        x1, x2 = (min(max(x, 0), width) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), height) for y in (y1, y2))
        if valid[image, n] and x2 - x1 > 10 and y2 - y1 > 10:
            boxes.append([x1, y1, x2, y2])
            gaps.append(max(abs(a - b) for a, b in zip(p, q, strict=True)))
    return torch.tensor(boxes), torch.tensor(gaps)


class TestChoice:
    def test_they_are_what_suppression_keeps(self, pair: Pair) -> None:
        valid = torch.rand(2, 400, generator=torch.Generator().manual_seed(2)) < 0.8
        found = general_instances(*pair, valid, SIZES)
        for image in range(2):
            boxes, gaps = candidates(pair, image, valid)
            expected = boxes[nms(boxes, gaps, 0.3)[:10]]
            assert len(expected) == 10 and found.found[image].all()
            torch.testing.assert_close(found.boxes[image], expected)

    def test_rows_that_are_left_over_have_no_box(self, pair: Pair) -> None:
        valid = ~everywhere(pair[0])
        valid[0, 170] = valid[0, 175] = True
        found = general_instances(*pair, valid, SIZES)
        assert found.found.sum(dim=1).tolist() == [2, 0]
        assert found.found[0, :2].all()

    def test_small_boxes_are_none(self, pair: Pair) -> None:
        student, teacher = pair
        centres = student.locations.centres
        small = torch.cat([centres, centres + torch.tensor([50.0, 9.0])], dim=1).expand(2, -1, -1)
        pair = replace(student, boxes=small), replace(teacher, boxes=small)
        assert not general_instances(*pair, everywhere(student), SIZES).found.any()

    def test_labels_are_not_looked_at(self, pair: Pair) -> None:
        term = GeneralInstances(*pair)
        batches = [batch_of(boxes, 128, 160) for boxes in ([[], []], [[[0.0, 0, 50, 50]], []])]
        values = [term(*pair, assigned(pair[0]), batch) for batch in batches]
        assert values[0] == values[1] > 0


class TestValue:
    def test_by_loops(self, pair: Pair) -> None:
        batch = replace(batch_of([[], []], 128, 160), sizes=SIZES)
        valid = everywhere(pair[0])
        valid[1] = False
        valid[1, [45, 170, 260, 390]] = True  # an image of few instances
        chosen = general_instances(*pair, valid, SIZES)
        term = GeneralInstances(*pair)
        maps = adapted(term, pair)
        feature, relation, numbers = 0.0, [], 0
        for image in range(2):
            boxes = chosen.boxes[image][chosen.found[image]]
            numbers += len(boxes)
            cut = [instances(maps, side, image, boxes) for side in (0, 1)]
            feature += (cut[0] - cut[1]).square().sum().item() / (10 * 10)
            distances = []
            for rows in cut:
                each = {
                    (k, m): (rows[k] - rows[m]).norm().item()
                    for k in range(len(rows))
                    for m in range(len(rows))
                    if k != m
                }
                mean = sum(each.values()) / len(each)
                distances.append([distance / mean for distance in each.values()])
            relation += [abs(a - b) for a, b in zip(*distances, strict=True)]
        assert 12 < numbers < 20
        smooth = [x * x / 2 if x < 1 else x - 0.5 for x in relation]
        expected = 5e-4 * feature / numbers + 40 * sum(smooth) / len(smooth)
        found = term(*pair, Assignment.for_distillation(~valid, valid), batch)
        assert found.item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize(
        ("side", "gap"),
        [(100.0, 2.0), (111.0, 2.0), (112.0, 2.0), (223.0, 2.0), (224.0, 3.0), (310.0, 3.0)],
    )
    def test_a_box_of_14_strides_is_read_from_a_level(
        self, side: float, gap: float, dense_output: Callable[..., DenseOutput]
    ) -> None:
        """By hand: maps that differ by 2 on stride 8 and by 3 on stride 16, in 5 channels."""
        shapes = ((40, 40), (20, 20))
        plain = dense_output(shapes=shapes, num_images=1)
        boxes = torch.tensor([5.0, 5, 5 + side, 5 + side]).expand_as(plain.boxes)
        pair = tuple(
            replace(plain, boxes=boxes, features=tuple(torch.full((1, 5, *s), x) for s, x in maps))
            for maps in (
                zip(shapes, (0.0, 0.0), strict=True),
                zip(shapes, (2.0, 3.0), strict=True),
            )
        )
        found = GeneralInstances(*pair)(*pair, assigned(plain), batch_of([[]], 320, 320))
        assert found.item() == pytest.approx(5e-4 * 5 * gap**2, rel=1e-5)

    def test_nothing_is_chosen(self, pair: Pair) -> None:
        nowhere = ~everywhere(pair[0])
        maps = tuple(x.requires_grad_() for x in pair[0].features)
        student = replace(pair[0], features=maps)
        term = GeneralInstances(student, pair[1])
        found = term(
            student,
            pair[1],
            Assignment.for_distillation(nowhere, nowhere),
            batch_of([[], []], 128, 160),
        )
        found.backward()
        assert found == 0 and not any(x.grad.any() for x in maps)


def instances(
    maps: Sequence[tuple[Tensor, Tensor]], side: int, image: int, boxes: Tensor
) -> Tensor:
    """(K, C * 100) each box's map, of the level of its size."""
    rows = []
    for box in boxes:
        size = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
        level = int(size >= 14 * STRIDES[1])
        map_ = maps[level][side][image : image + 1]
        rows.append(roi_align(map_, [box[None]], 10, 1 / STRIDES[level], 2, True).flatten())
    return torch.stack(rows)

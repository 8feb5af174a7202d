from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision import ops

from bckd.geometry import (
    LARGEST_STRETCH,
    box_area,
    box_intersection,
    box_similarity,
    boxes_to_deltas,
    boxes_to_distances,
    deltas_to_boxes,
    distances_to_boxes,
    grid,
    with_anchors,
)
from bckd.structures import Level

KINDS = ("iou", "giou", "diou", "ciou")
TORCHVISION = {
    "iou": ops.box_iou,
    "giou": ops.generalized_box_iou,
    "diou": ops.distance_box_iou,
    "ciou": ops.complete_box_iou,
}


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(count, 2, generator=generator)
    sides = 1 + 50 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + sides], dim=1)


class TestGrid:
    def test_levels_follow_each_other_row_by_row(self) -> None:
        locations = grid([(2, 3), (1, 2)], [8, 16])
        first = [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
        assert locations.centres.tolist() == [*first, [0, 0], [16, 0]]
        assert locations.strides.tolist() == [8.0] * 6 + [16.0] * 2
        assert locations.levels == (Level(8, 2, 3), Level(16, 1, 2))

    def test_offset_counts_in_cells(self) -> None:
        locations = grid([(1, 2), (1, 1)], [8, 16], offset=0.5)
        assert locations.centres.tolist() == [[4, 4], [12, 4], [8, 8]]

    def test_shapes_and_strides_must_pair(self) -> None:
        with pytest.raises(ValueError):
            grid([(1, 2), (1, 1)], [8])


class TestAnchors:
    shapes = ((2.0, 2.0), (3.0, 1.0), (0.5, 4.0))

    def test_the_anchors_of_a_cell_stand_together_about_its_centre(self) -> None:
        cells = grid([(2, 3), (1, 2)], [8, 16], offset=0.5)
        locations = with_anchors(cells, self.shapes)
        a = 0
        for (x, y), stride in zip(cells.centres.tolist(), cells.strides.tolist(), strict=True):
            for width, height in self.shapes:
                half = (width * stride / 2, height * stride / 2)
                expected = [x - half[0], y - half[1], x + half[0], y + half[1]]
                assert locations.anchors[a].tolist() == expected
                assert locations.centres[a].tolist() == [x, y]
                assert locations.strides[a] == stride
                a += 1
        assert a == len(locations.anchors) == sum(locations.counts)

    def test_levels_count_them(self) -> None:
        locations = with_anchors(grid([(2, 3), (1, 2)], [8, 16]), self.shapes)
        assert locations.levels == (Level(8, 2, 3, per_cell=3), Level(16, 1, 2, per_cell=3))
        assert locations.counts == [18, 6]

    def test_one_anchor_changes_nothing_else(self) -> None:
        cells = grid([(2, 3)], [8])
        locations = with_anchors(cells, [(4.0, 4.0)])
        assert cells.anchors is None
        assert torch.equal(locations.centres, cells.centres)
        assert torch.equal(locations.strides, cells.strides)
        assert locations.levels == cells.levels


class TestDeltas:
    def test_round_trip_from_boxes(self) -> None:
        anchors, boxes = random_boxes(40, seed=11), random_boxes(40, seed=12)
        back = deltas_to_boxes(anchors, boxes_to_deltas(anchors, boxes))
        torch.testing.assert_close(back, boxes, atol=1e-4, rtol=0)

    def test_round_trip_from_deltas(self) -> None:
        anchors = random_boxes(40, seed=13)
        deltas = torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(14))
        back = boxes_to_deltas(anchors, deltas_to_boxes(anchors, deltas))
        torch.testing.assert_close(back, deltas, atol=1e-3, rtol=1e-3)

    def test_none_is_the_anchor(self) -> None:
        anchors = random_boxes(20, seed=15)
        torch.testing.assert_close(deltas_to_boxes(anchors, torch.zeros(20, 4)), anchors)
        deltas = boxes_to_deltas(anchors, anchors)
        torch.testing.assert_close(deltas, torch.zeros(20, 4), atol=1e-5, rtol=0)

    def test_is_shift_in_sides_and_logarithm_of_the_factor(self) -> None:
        anchor = torch.tensor([10.0, 20, 18, 24])  # 8 wide and 4 high about (14, 22)
        delta = torch.tensor([0.5, -1.0, math.log(2), math.log(3)])
        expected = torch.tensor([18.0 - 8, 18 - 6, 18 + 8, 18 + 6])
        torch.testing.assert_close(deltas_to_boxes(anchor, delta), expected)
        torch.testing.assert_close(boxes_to_deltas(anchor, expected), delta)

    def test_the_factor_on_the_sides_is_limited_both_ways(self) -> None:
        assert math.exp(LARGEST_STRETCH) == pytest.approx(1000 / 16)
        anchor = torch.tensor([0.0, 0, 32, 32])
        deltas = torch.tensor([[0, 0, 9.0, -9.0]], requires_grad=True)
        box = deltas_to_boxes(anchor, deltas)
        sides = (box[0, 2:] - box[0, :2]).tolist()
        assert sides == pytest.approx([32 * 1000 / 16, 32 * 16 / 1000], rel=1e-4)
        (gradient,) = torch.autograd.grad(box[..., 2:].sum(), deltas)
        assert gradient.tolist() == [[32, 32, 0, 0]]

    def test_gradient_is_the_slope(self) -> None:
        anchors = random_boxes(6, seed=16).double()
        deltas = torch.randn(6, 4, generator=torch.Generator().manual_seed(17)).double()
        deltas.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: deltas_to_boxes(anchors, x), deltas)


class TestDistances:
    def test_round_trip_from_boxes(self) -> None:
        boxes = random_boxes(20, seed=0)
        centres = 80 * torch.rand(20, 2, generator=torch.Generator().manual_seed(1))
        back = distances_to_boxes(centres, boxes_to_distances(centres, boxes))
        torch.testing.assert_close(back, boxes, atol=1e-4, rtol=0)

    def test_round_trip_from_distances(self) -> None:
        distances = 50 * torch.rand(20, 4, generator=torch.Generator().manual_seed(2))
        centres = torch.full((20, 2), 64.0)
        back = boxes_to_distances(centres, distances_to_boxes(centres, distances))
        torch.testing.assert_close(back, distances, atol=1e-4, rtol=0)

    def test_order_is_left_top_right_bottom(self) -> None:
        box = distances_to_boxes(torch.tensor([10.0, 20.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        assert box.tolist() == [9, 18, 13, 24]


def test_area_and_intersection() -> None:
    a, b = torch.tensor([0.0, 0, 4, 3]), torch.tensor([2.0, 1, 9, 9])
    assert box_area(a) == 12
    assert box_intersection(a, b) == 4
    assert box_intersection(a, b + 20) == 0


class TestSimilarity:
    @pytest.mark.parametrize("kind", KINDS)
    def test_agrees_with_torchvision(self, kind: str) -> None:
        a, b = random_boxes(30, seed=3), random_boxes(40, seed=4)
        found = box_similarity(a[:, None], b, kind)
        assert found.shape == (30, 40)
        torch.testing.assert_close(found, TORCHVISION[kind](a, b), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_symmetric(self, kind: str) -> None:
        a, b = random_boxes(50, seed=5), random_boxes(50, seed=6)
        torch.testing.assert_close(box_similarity(a, b, kind), box_similarity(b, a, kind))

    @pytest.mark.parametrize("kind", KINDS)
    def test_equal_boxes_give_one(self, kind: str) -> None:
        boxes = random_boxes(50, seed=7)
        torch.testing.assert_close(box_similarity(boxes, boxes, kind), torch.ones(50))

    def test_containment(self) -> None:
        outer, inner = torch.tensor([0.0, 0, 10, 10]), torch.tensor([1.0, 1, 5, 6])
        assert box_similarity(outer, inner).item() == pytest.approx(0.2)
        # The enclosing box is the outer one and the union fills it.
        assert box_similarity(outer, inner, "giou").item() == pytest.approx(0.2)
        gap = (5 - 3) ** 2 + (5 - 3.5) ** 2
        assert box_similarity(outer, inner, "diou").item() == pytest.approx(0.2 - gap / 200)
        v = 4 / math.pi**2 * (math.atan(1) - math.atan(4 / 5)) ** 2
        ciou = 0.2 - gap / 200 - v * v / (0.8 + v)
        assert box_similarity(outer, inner, "ciou").item() == pytest.approx(ciou)

    def test_disjoint(self) -> None:
        a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([4.0, 0, 6, 2])
        assert box_similarity(a, b) == 0
        assert box_similarity(a, b, "giou").item() == pytest.approx(-4 / 12)
        assert box_similarity(a, b, "diou").item() == pytest.approx(-16 / 40)
        assert box_similarity(a, b, "ciou").item() == pytest.approx(-16 / 40)

    def test_only_the_penalised_kinds_see_the_distance_of_disjoint_boxes(self) -> None:
        box = torch.tensor([0.0, 0, 2, 2], requires_grad=True)
        for kind in KINDS:
            similarity = box_similarity(box, torch.tensor([4.0, 0, 6, 2]), kind)
            (gradient,) = torch.autograd.grad(similarity, box)
            assert bool(gradient.any()) == (kind != "iou")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ([3.0, 3, 3, 3], [3.0, 3, 3, 3]),
            ([3.0, 3, 3, 3], [0.0, 0, 8, 8]),
            ([3.0, 0, 3, 5], [0.0, 0, 8, 8]),
            ([5.0, 5, 2, 2], [0.0, 0, 8, 8]),
            ([0.0, 0, 8, 8], [0.0, 0, 8, 8]),
        ],
        ids=["equal points", "point", "line", "negative sides", "equal"],
    )
    def test_degenerate_boxes_keep_a_finite_gradient(
        self, kind: str, first: list[float], second: list[float]
    ) -> None:
        a = torch.tensor(first, requires_grad=True)
        value = box_similarity(a, torch.tensor(second), kind)
        (gradient,) = torch.autograd.grad(value, a)
        assert value.isfinite() and gradient.isfinite().all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_gradient_is_the_slope(self, kind: str) -> None:
        a = random_boxes(6, seed=8).double().requires_grad_()
        b = random_boxes(6, seed=9).double()
        if kind == "ciou":  # alpha carries no gradient: compare with torchvision's
            (ours,) = torch.autograd.grad(box_similarity(a, b, kind).sum(), a)
            theirs_value = TORCHVISION[kind](a, b).diagonal().sum()
            (theirs,) = torch.autograd.grad(theirs_value, a)
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
        else:
            assert torch.autograd.gradcheck(lambda x: box_similarity(x, b, kind), a)

    def test_unknown_kind(self) -> None:
        boxes = random_boxes(2, seed=10)
        with pytest.raises(ValueError, match="'eiou' is unknown"):
            box_similarity(boxes, boxes, "eiou")

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from bckd.geometry import LARGEST_STRETCH, boxes_to_deltas
from bckd.models.heads.head import HeadSettings
from bckd.models.heads.layers import PRIOR
from bckd.models.heads.retinanet import RetinaNetHead, anchor_shapes, decode

STRIDES = (8, 16)
SHAPES = ((3, 4), (2, 2))
LOCATIONS = 9 * (12 + 4)


def maps(channels: int, seed: int = 0, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, *shape, generator=generator) for shape in SHAPES]


def as_maps(rows: Tensor) -> list[Tensor]:
    """Rows of all locations (N, A, V) as the maps (N, 9 * V, H, W) that a head would give."""
    found, start = [], 0
    for height, width in SHAPES:
        cells = rows[:, start : start + 9 * height * width]
        start += 9 * height * width
        cells = cells.reshape(len(rows), height, width, -1)
        found.append(cells.permute(0, 3, 1, 2))
    return found


class TestAnchors:
    @pytest.mark.parametrize("scale", [4.0, 2.5])
    def test_three_sizes_in_three_ratios(self, scale: float) -> None:
        shapes = anchor_shapes(scale)
        assert len(shapes) == 9
        expected = [(r, (scale * 2 ** (i / 3)) ** 2) for r, i in product((0.5, 1, 2), range(3))]
        found = [(height / width, height * width) for width, height in shapes]
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-5)

    def test_stand_about_the_corner_of_their_cell(self) -> None:
        output = decode(maps(9), maps(36), STRIDES, anchor_scale=4.0)
        anchors = output.locations.anchors
        a = 0
        for (height, width), stride in zip(SHAPES, STRIDES, strict=True):
            for row, column in product(range(height), range(width)):
                for w, h in anchor_shapes(4.0):
                    x, y = column * stride, row * stride
                    half = (w * stride / 2, h * stride / 2)
                    expected = [x - half[0], y - half[1], x + half[0], y + half[1]]
                    assert anchors[a].tolist() == pytest.approx(expected, abs=1e-4)
                    assert output.locations.centres[a].tolist() == [x, y]
                    assert output.locations.strides[a] == stride
                    a += 1
        assert a == len(anchors) == LOCATIONS


class TestDecode:
    def test_shapes(self) -> None:
        output = decode(maps(9 * 5), maps(36), STRIDES)
        assert output.cls_logits.shape == (2, LOCATIONS, 5)
        assert output.boxes.shape == output.deltas.shape == (2, LOCATIONS, 4)
        assert output.locations.counts == [9 * 12, 9 * 4]
        assert output.box_logits is None and output.quality is None and output.features == ()

    def test_locations_go_cell_by_cell_the_anchors_of_a_cell_together(self) -> None:
        cls_maps, box_maps = maps(9 * 5), maps(36, seed=1)
        output = decode(cls_maps, box_maps, STRIDES)
        a = 0
        for cls_map, box_map in zip(cls_maps, box_maps, strict=True):
            for row, column in product(range(cls_map.shape[2]), range(cls_map.shape[3])):
                for anchor in range(9):
                    logits = cls_map[:, 5 * anchor : 5 * anchor + 5, row, column]
                    deltas = box_map[:, 4 * anchor : 4 * anchor + 4, row, column]
                    assert torch.equal(output.cls_logits[:, a], logits)
                    assert torch.equal(output.deltas[:, a], deltas)
                    a += 1
        assert a == LOCATIONS

    def test_no_delta_is_the_anchor(self) -> None:
        output = decode(maps(9), [0 * x for x in maps(36)], STRIDES)
        torch.testing.assert_close(
            output.boxes, output.locations.anchors.expand(2, -1, -1), atol=1e-4, rtol=0
        )

    def test_the_deltas_of_any_boxes_lead_back_to_them(self) -> None:
        generator = torch.Generator().manual_seed(3)
        corner = 60 * torch.rand(2, LOCATIONS, 2, generator=generator) - 20
        sides = 2 + 70 * torch.rand(2, LOCATIONS, 2, generator=generator)
        boxes = torch.cat([corner, corner + sides], dim=-1)
        anchors = decode(maps(9), maps(36), STRIDES).locations.anchors
        output = decode(maps(9), as_maps(boxes_to_deltas(anchors, boxes)), STRIDES)
        torch.testing.assert_close(output.boxes, boxes, atol=1e-3, rtol=1e-5)

    @pytest.mark.parametrize(("delta", "factor"), [(50.0, 1000 / 16), (-50.0, 16 / 1000)])
    def test_sides_are_limited_and_shifts_are_not(self, delta: float, factor: float) -> None:
        rows = torch.zeros(1, LOCATIONS, 4)
        rows[..., 2] = delta
        rows[..., 0] = 30.0
        output = decode(maps(9, count=1), as_maps(rows), STRIDES)
        anchors, boxes = output.locations.anchors, output.boxes[0]
        widths = anchors[:, 2] - anchors[:, 0]
        torch.testing.assert_close(boxes[:, 2] - boxes[:, 0], factor * widths, atol=2e-3, rtol=1e-4)
        middle = (boxes[:, 0] + boxes[:, 2]) / 2
        expected = (anchors[:, 0] + anchors[:, 2]) / 2 + 30 * widths
        torch.testing.assert_close(middle, expected, atol=1e-2, rtol=1e-4)
        assert output.deltas[0, 0, 2] == delta, "the raw delta is what the loss compares"

    def test_gradient_flows_to_the_sides_shift_and_stretch(self) -> None:
        rows = torch.zeros(2, LOCATIONS, 4)
        rows[1, :, 2] = LARGEST_STRETCH + 1  # beyond the limit
        rows.requires_grad_()
        decode(maps(9), as_maps(rows), STRIDES).boxes[..., 2].sum().backward()
        reached = (rows.grad != 0).all(dim=1)
        assert reached.tolist() == [[True, False, True, False], [True, False, False, False]]

    def test_half_precision_maps_decode_in_full(self) -> None:
        output = decode([x.bfloat16() for x in maps(9)], [x.bfloat16() for x in maps(36)], STRIDES)
        values = (output.cls_logits, output.boxes, output.deltas)
        assert {x.dtype for x in values} == {torch.float32}


class TestHead:
    @pytest.fixture
    def head(self) -> RetinaNetHead:
        torch.manual_seed(0)
        return RetinaNetHead(
            3, HeadSettings(channels=8, strides=STRIDES, convs=2, anchor_scale=4.0)
        )

    def test_shapes(self, head: RetinaNetHead) -> None:
        pyramid = maps(8)
        output = head(pyramid)
        assert output.cls_logits.shape == (2, LOCATIONS, 3)
        assert output.boxes.shape == (2, LOCATIONS, 4)
        assert all(a is b for a, b in zip(output.features, pyramid, strict=True))

    def test_towers_are_shared_and_have_no_normalisation(self, head: RetinaNetHead) -> None:
        kinds = {type(m) for m in head.cls_tower.modules()} - {nn.Sequential}
        assert kinds == {nn.Conv2d, nn.ReLU}
        assert all(m.bias is not None for m in head.modules() if isinstance(m, nn.Conv2d))
        swapped = RetinaNetHead(
            3, HeadSettings(channels=8, strides=STRIDES[::-1], convs=2, anchor_scale=4.0)
        )
        swapped.load_state_dict(head.state_dict())
        one, other = head(maps(8)), swapped(maps(8)[::-1])
        torch.testing.assert_close(one.cls_logits[:, :108], other.cls_logits[:, 36:])

    def test_scores_start_at_the_prior(self, head: RetinaNetHead) -> None:
        bias = torch.full((27,), -math.log((1 - PRIOR) / PRIOR))
        torch.testing.assert_close(head.cls.bias.detach(), bias)
        assert not head.box.bias.any()

    def test_pyramid_and_strides_must_pair(self, head: RetinaNetHead) -> None:
        with pytest.raises(ValueError):
            head(maps(8)[:1])

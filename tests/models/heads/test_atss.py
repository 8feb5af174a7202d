from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from bckd.geometry import LARGEST_STRETCH, boxes_to_deltas
from bckd.models.heads.atss import DELTA_SCALE, ATSSHead, decode
from bckd.models.heads.head import HeadSettings
from bckd.models.heads.layers import PRIOR

STRIDES = (8, 16)
SHAPES = ((3, 4), (2, 2))


def maps(channels: int, seed: int = 0, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, *shape, generator=generator) for shape in SHAPES]


def as_maps(rows: Tensor) -> list[Tensor]:
    """Rows of all locations (N, 16, 4) as maps (N, 4, H, W)."""
    levels = zip(rows.split([12, 4], dim=1), SHAPES, strict=True)
    return [level.transpose(1, 2).unflatten(2, shape) for level, shape in levels]


class TestDecode:
    def test_shapes(self) -> None:
        output = decode(maps(5), maps(4), maps(1), STRIDES)
        assert output.cls_logits.shape == (2, 16, 5)
        assert output.boxes.shape == output.locations.anchors.expand(2, -1, -1).shape
        assert output.quality.shape == (2, 16)
        assert output.box_logits is None and output.features == ()

    def test_locations_go_row_by_row_then_level_by_level(self) -> None:
        groups = (maps(5), maps(4, seed=1), maps(1, seed=2))
        output = decode(*groups, STRIDES, anchor_scale=6.0)
        a = 0
        for cls_map, box_map, quality_map, stride in zip(*groups, STRIDES, strict=True):
            for row, column in product(range(cls_map.shape[2]), range(cls_map.shape[3])):
                assert torch.equal(output.cls_logits[:, a], cls_map[:, :, row, column])
                assert torch.equal(output.quality[:, a], quality_map[:, 0, row, column])
                x, y, side = column * stride, row * stride, 6 * stride
                anchor = [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
                assert output.locations.anchors[a].tolist() == anchor
                assert output.locations.centres[a].tolist() == [x, y]
                for n in range(2):
                    dx, dy, dw, dh = box_map[n, :, row, column].tolist()
                    middle = (x + 0.1 * dx * side, y + 0.1 * dy * side)
                    half = (side / 2 * math.exp(0.2 * dw), side / 2 * math.exp(0.2 * dh))
                    box = [middle[0] - half[0], middle[1] - half[1]]
                    box += [middle[0] + half[0], middle[1] + half[1]]
                    assert output.boxes[n, a].tolist() == pytest.approx(box, abs=1e-4)
                a += 1
        assert a == 16

    def test_no_delta_is_the_anchor(self) -> None:
        output = decode(maps(1), [0 * x for x in maps(4)], maps(1), STRIDES)
        assert torch.equal(output.boxes, output.locations.anchors.expand(2, -1, -1))

    def test_the_deltas_of_any_boxes_lead_back_to_them(self) -> None:
        generator = torch.Generator().manual_seed(3)
        corner = 60 * torch.rand(2, 16, 2, generator=generator) - 20
        boxes = torch.cat([corner, corner + 2 + 70 * torch.rand(2, 16, 2, generator=generator)], -1)
        anchors = decode(maps(1), maps(4), maps(1), STRIDES).locations.anchors
        predicted = boxes_to_deltas(anchors, boxes) / torch.tensor(DELTA_SCALE)
        output = decode(maps(1), as_maps(predicted), maps(1), STRIDES)
        torch.testing.assert_close(output.boxes, boxes, atol=1e-3, rtol=1e-5)

    def test_sides_are_limited(self) -> None:
        rows = torch.zeros(2, 16, 4)
        rows[0, :, 2], rows[1, :, 3] = 50.0, -50.0
        output = decode(maps(1), as_maps(rows), maps(1), STRIDES)
        sides = (output.boxes[..., 2:] - output.boxes[..., :2]) / (
            8 * output.locations.strides[:, None]
        )
        expected = torch.tensor([[1000 / 16, 1], [1, 16 / 1000]])[:, None].expand(2, 16, 2)
        torch.testing.assert_close(sides, expected, atol=1e-4, rtol=1e-4)

    def test_gradient_flows_to_the_sides_shift_and_stretch(self) -> None:
        rows = torch.zeros(2, 16, 4)
        rows[1, :, 3] = (LARGEST_STRETCH + 1) / 0.2  # beyond the limit
        rows.requires_grad_()
        decode(maps(1), as_maps(rows), maps(1), STRIDES).boxes[..., 3].sum().backward()
        reached = (rows.grad != 0).all(dim=1)
        assert reached.tolist() == [[False, True, False, True], [False, True, False, False]]

    def test_half_precision_maps_decode_in_full(self) -> None:
        groups = ([x.bfloat16() for x in group] for group in (maps(2), maps(4), maps(1)))
        output = decode(*groups, STRIDES)
        values = (output.cls_logits, output.boxes, output.quality)
        assert {x.dtype for x in values} == {torch.float32}


class TestHead:
    @pytest.fixture
    def head(self) -> ATSSHead:
        torch.manual_seed(0)
        return ATSSHead(
            3, HeadSettings(channels=8, strides=STRIDES, convs=2, groups=4, anchor_scale=4.0)
        )

    def test_shapes(self, head: ATSSHead) -> None:
        pyramid = maps(8)
        output = head(pyramid)
        assert output.cls_logits.shape == (2, 16, 3)
        assert output.quality.shape == (2, 16)
        sides = output.locations.anchors[:, 2] - output.locations.anchors[:, 0]
        assert torch.equal(sides, 4 * output.locations.strides)
        assert all(a is b for a, b in zip(output.features, pyramid, strict=True))

    def test_starts_at_the_prior_and_the_anchors(self, head: ATSSHead) -> None:
        output = head([0 * x for x in maps(8)])
        scores = output.cls_logits.sigmoid()
        torch.testing.assert_close(scores, torch.full_like(scores, PRIOR))
        assert torch.equal(output.boxes, output.locations.anchors.expand(2, -1, -1))

    def test_each_level_scales_its_deltas(self, head: ATSSHead) -> None:
        before = head(maps(8))
        with torch.no_grad():
            head.scales[1].scale.fill_(3.0)
        after = head(maps(8))
        assert torch.equal(before.boxes[:, :12], after.boxes[:, :12])
        anchors = before.locations.anchors[12:]
        deltas = [boxes_to_deltas(anchors, output.boxes[:, 12:]) for output in (before, after)]
        torch.testing.assert_close(3 * deltas[0], deltas[1], atol=1e-5, rtol=1e-3)

    def test_centerness_stands_beside_the_boxes(self, head: ATSSHead) -> None:
        head(maps(8)).quality.sum().backward()
        assert all(p.grad.any() for p in head.box_tower.parameters())
        assert all(p.grad is None for p in head.cls_tower.parameters())

    def test_pyramid_and_strides_must_pair(self, head: ATSSHead) -> None:
        with pytest.raises(ValueError):
            head(maps(8)[:1])

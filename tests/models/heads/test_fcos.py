from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from bckd.geometry import boxes_to_distances
from bckd.models.heads.fcos import FCOSHead, decode
from bckd.models.heads.head import HeadSettings
from bckd.models.heads.layers import PRIOR

STRIDES = (8, 16)
SHAPES = ((3, 4), (2, 2))


def maps(channels: int, seed: int = 0, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, *shape, generator=generator) for shape in SHAPES]


def distance_maps(count: int = 2) -> list[Tensor]:
    return [30 * x.sigmoid() for x in maps(4, seed=1, count=count)]


class TestDecode:
    def test_shapes(self) -> None:
        output = decode(maps(5), distance_maps(), maps(1), STRIDES)
        assert output.cls_logits.shape == (2, 16, 5)
        assert output.boxes.shape == (2, 16, 4)
        assert output.quality.shape == (2, 16)
        assert output.locations.counts == [12, 4]
        assert output.locations.anchors is None
        assert output.box_logits is None and output.deltas is None and output.features == ()

    def test_locations_go_row_by_row_then_level_by_level(self) -> None:
        groups = (maps(5), distance_maps(), maps(1, seed=2))
        output = decode(*groups, STRIDES)
        a = 0
        for cls_map, box_map, quality_map, stride in zip(*groups, STRIDES, strict=True):
            for row, column in product(range(cls_map.shape[2]), range(cls_map.shape[3])):
                assert torch.equal(output.cls_logits[:, a], cls_map[:, :, row, column])
                assert torch.equal(output.quality[:, a], quality_map[:, 0, row, column])
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                assert output.locations.centres[a].tolist() == [x, y]
                left, top, right, bottom = box_map[:, :, row, column].unbind(1)
                box = torch.stack([x - left, y - top, x + right, y + bottom], dim=1)
                torch.testing.assert_close(output.boxes[:, a], box)
                a += 1
        assert a == 16

    def test_a_distance_is_in_pixels_on_every_level(self) -> None:
        sides = torch.tensor([1.0, 2, 3, 5])
        box_maps = [sides.view(1, 4, 1, 1).expand(1, 4, *shape) for shape in SHAPES]
        output = decode(maps(1, count=1), box_maps, maps(1, count=1), STRIDES)
        distances = boxes_to_distances(output.locations.centres, output.boxes[0])
        torch.testing.assert_close(distances, sides.expand(16, 4))

    def test_gradient_flows_through_boxes(self) -> None:
        box_maps = [x.requires_grad_() for x in distance_maps()]
        decode(maps(1), box_maps, maps(1), STRIDES).boxes[..., 1].sum().backward()
        for box_map in box_maps:
            expected = torch.zeros_like(box_map)
            expected[:, 1] = -1
            assert torch.equal(box_map.grad, expected)

    def test_half_precision_maps_decode_in_full(self) -> None:
        groups = ([x.bfloat16() for x in group] for group in (maps(2), distance_maps(), maps(1)))
        output = decode(*groups, STRIDES)
        values = (output.cls_logits, output.boxes, output.quality)
        assert {x.dtype for x in values} == {torch.float32}


class TestHead:
    @pytest.fixture
    def head(self) -> FCOSHead:
        torch.manual_seed(0)
        return FCOSHead(3, HeadSettings(channels=8, strides=STRIDES, convs=2, groups=4))

    def distances(self, head: FCOSHead) -> Tensor:
        output = head(maps(8))
        return boxes_to_distances(output.locations.centres, output.boxes)

    def test_shapes(self, head: FCOSHead) -> None:
        pyramid = maps(8)
        output = head(pyramid)
        assert output.cls_logits.shape == (2, 16, 3)
        assert output.quality.shape == (2, 16)
        assert all(a is b for a, b in zip(output.features, pyramid, strict=True))

    def test_a_point_lies_in_its_box(self, head: FCOSHead) -> None:
        with torch.no_grad():
            head.box.weight *= 30
        assert (self.distances(head) > 0).all()

    def test_scores_start_at_the_prior_and_sides_at_a_pixel(self, head: FCOSHead) -> None:
        nothing = [0 * x for x in maps(8)]
        output = head(nothing)
        scores = output.cls_logits.sigmoid()
        torch.testing.assert_close(scores, torch.full_like(scores, PRIOR))
        assert not output.quality.any()
        distances = boxes_to_distances(output.locations.centres, output.boxes)
        torch.testing.assert_close(distances, torch.ones_like(distances))

    def test_each_level_scales_what_the_exponential_takes(self, head: FCOSHead) -> None:
        before = self.distances(head)
        with torch.no_grad():
            head.scales[1].scale.fill_(3.0)
        after = self.distances(head)
        assert torch.equal(before[:, :12], after[:, :12])
        torch.testing.assert_close(before[:, 12:] ** 3, after[:, 12:], atol=1e-4, rtol=1e-4)

    def test_centerness_stands_beside_the_classes(self, head: FCOSHead) -> None:
        head(maps(8)).quality.sum().backward()
        assert all(p.grad.any() for p in head.cls_tower.parameters())
        assert all(p.grad is None for p in head.box_tower.parameters())

    def test_pyramid_and_strides_must_pair(self, head: FCOSHead) -> None:
        with pytest.raises(ValueError):
            head(maps(8)[:1])

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bckd.models.heads.gfl import GFLHead, decode
from bckd.models.heads.head import HeadSettings
from bckd.models.heads.layers import PRIOR

STRIDES = (8, 16)


def maps(channels: int, seed: int = 0, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, channels, height, width, generator=generator)
        for height, width in ((3, 4), (2, 2))
    ]


class TestDecode:
    def test_shapes(self) -> None:
        output = decode(maps(5), maps(4 * 7, seed=1), STRIDES)
        assert output.cls_logits.shape == (2, 16, 5)
        assert output.boxes.shape == (2, 16, 4)
        assert output.box_logits.shape == (2, 16, 4, 7)
        assert output.locations.counts == [12, 4]
        assert output.quality is None and output.features == ()

    def test_locations_go_row_by_row_then_level_by_level(self) -> None:
        cls_maps, box_maps = maps(5), maps(4 * 7, seed=1)
        output = decode(cls_maps, box_maps, STRIDES)
        a = 0
        for cls_map, box_map, stride in zip(cls_maps, box_maps, STRIDES, strict=True):
            for row in range(cls_map.shape[2]):
                for column in range(cls_map.shape[3]):
                    assert torch.equal(output.cls_logits[:, a], cls_map[:, :, row, column])
                    sides = box_map[:, :, row, column].reshape(2, 4, 7)
                    assert torch.equal(output.box_logits[:, a], sides)
                    centre = [column * stride, row * stride]
                    assert output.locations.centres[a].tolist() == centre
                    a += 1
        assert a == 16

    def test_channels_are_side_major(self) -> None:
        box_maps = [torch.zeros(1, 4 * 7, 3, 4), torch.zeros(1, 4 * 7, 2, 2)]
        for side, distance in enumerate((1, 2, 3, 5)):  # left, top, right, bottom
            for box_map in box_maps:
                box_map[:, side * 7 + distance] = 50.0
        output = decode(maps(1, count=1), box_maps, STRIDES)
        x, y = output.locations.centres.unbind(1)
        stride = output.locations.strides
        expected = torch.stack([x - stride, y - 2 * stride, x + 3 * stride, y + 5 * stride], dim=1)
        torch.testing.assert_close(output.boxes[0], expected)

    def test_a_side_is_the_mean_of_its_distribution(self) -> None:
        shares = torch.tensor([0.1, 0.2, 0.3, 0.4])  # mean 2 strides
        box_map = shares.log().repeat(4).view(1, 16, 1, 1).expand(-1, -1, 2, 2)
        output = decode([torch.zeros(1, 1, 2, 2)], [box_map], [8])
        torch.testing.assert_close(output.boxes[0, 3], torch.tensor([-8.0, -8, 24, 24]))

    def test_a_flat_distribution_gives_half_of_the_largest_distance(self) -> None:
        output = decode([torch.zeros(1, 1, 1, 1)], [torch.zeros(1, 4 * 17, 1, 1)], [8])
        torch.testing.assert_close(output.boxes[0, 0], torch.tensor([-64.0, -64, 64, 64]))

    def test_gradient_flows_through_boxes(self) -> None:
        box_maps = [x.requires_grad_() for x in maps(4 * 7)]
        decode(maps(1), box_maps, STRIDES).boxes[..., 2].sum().backward()
        for box_map in box_maps:
            sides = box_map.grad.flatten(2).unflatten(1, (4, 7)).abs().sum(dim=(0, 2, 3))
            assert (sides > 0).tolist() == [False, False, True, False]

    def test_half_precision_maps_decode_in_full(self) -> None:
        output = decode(
            [x.bfloat16() for x in maps(2)], [x.bfloat16() for x in maps(4 * 7)], STRIDES
        )
        assert output.boxes.dtype == output.cls_logits.dtype == torch.float32


class TestHead:
    @pytest.fixture
    def head(self) -> GFLHead:
        torch.manual_seed(0)
        return GFLHead(3, HeadSettings(channels=8, strides=STRIDES, convs=2, groups=4, reg_max=6))

    def test_shapes(self, head: GFLHead) -> None:
        pyramid = maps(8)
        output = head(pyramid)
        assert output.cls_logits.shape == (2, 16, 3)
        assert output.box_logits.shape == (2, 16, 4, 7)
        assert all(a is b for a, b in zip(output.features, pyramid, strict=True))

    def test_training_and_evaluation_give_the_same(self, head: GFLHead) -> None:
        training, evaluation = head.train()(maps(8)), head.eval()(maps(8))
        for name in ("cls_logits", "boxes", "box_logits"):
            assert torch.equal(getattr(training, name), getattr(evaluation, name)), name

    def test_a_batch_is_its_images(self, head: GFLHead) -> None:
        pyramid = maps(8)
        together = head(pyramid)
        for n in range(2):
            alone = head([x[n : n + 1] for x in pyramid])
            torch.testing.assert_close(together.cls_logits[n], alone.cls_logits[0])
            torch.testing.assert_close(together.boxes[n], alone.boxes[0], atol=1e-4, rtol=1e-5)

    def test_scores_start_at_the_prior(self, head: GFLHead) -> None:
        bias = torch.full((3,), -math.log((1 - PRIOR) / PRIOR))
        torch.testing.assert_close(head.cls.bias.detach(), bias)
        scores = head([0 * x for x in maps(8)]).cls_logits.sigmoid()
        torch.testing.assert_close(scores, torch.full_like(scores, PRIOR))

    def test_towers_are_shared_but_each_level_has_its_scale(self, head: GFLHead) -> None:
        before = head(maps(8))
        with torch.no_grad():
            head.scales[1].scale.fill_(3.0)
        after = head(maps(8))
        assert torch.equal(before.cls_logits, after.cls_logits)
        assert torch.equal(before.box_logits[:, :12], after.box_logits[:, :12])
        torch.testing.assert_close(3 * before.box_logits[:, 12:], after.box_logits[:, 12:])

    def test_the_pyramid_must_have_a_map_for_every_stride(self, head: GFLHead) -> None:
        with pytest.raises(ValueError):
            head(maps(8)[:1])

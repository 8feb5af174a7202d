from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bckd.models.detector import Detector
from bckd.models.heads.layers import (
    PRIOR,
    ExactConv2d,
    GroupNorm,
    Scale,
    exact,
    exact_predictor,
    flatten_maps,
    initialise,
    predictor,
    shapes_of,
    tower,
)


class TestFlattenMaps:
    def test_a_location_a_cell(self) -> None:
        x = torch.arange(12).view(1, 2, 2, 3)
        rows = [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
        assert flatten_maps([x], 2).tolist() == [rows]
        assert flatten_maps([x, x], 2).tolist() == [rows + rows]

    def test_a_cells_locations_stand_together(self) -> None:
        x = torch.arange(12).view(1, 4, 1, 3)  # channels: (location, value)
        rows = [[0, 3], [6, 9], [1, 4], [7, 10], [2, 5], [8, 11]]
        assert flatten_maps([x], 2).tolist() == [rows]

    def test_memory_layout_does_not_matter(self) -> None:
        x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
        last = x.to(memory_format=torch.channels_last)
        assert torch.equal(flatten_maps([x], 3), flatten_maps([last], 3))

    def test_is_float32(self) -> None:
        assert flatten_maps([torch.zeros(1, 2, 1, 1).bfloat16()], 2).dtype == torch.float32


def test_shapes_of() -> None:
    assert shapes_of([torch.zeros(1, 2, 3, 4), torch.zeros(5, 1, 2, 2)]) == [(3, 4), (2, 2)]


def test_a_scale_is_one_learnable_factor() -> None:
    scale = Scale()
    assert scale(torch.tensor([2.0, -3.0])).tolist() == [2, -3]
    scale(torch.tensor([2.0, -3.0])).sum().backward()
    assert scale.scale.grad == -1


@pytest.mark.parametrize("groups", [4, None])
class TestTower:
    def test_keeps_the_shape(self, groups: int | None) -> None:
        x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
        found = tower(8, 3, groups)(x)
        assert found.shape == x.shape
        assert (found >= 0).all()

    def test_has_a_bias_or_a_norm(self, groups: int | None) -> None:
        modules = [*tower(8, 3, groups).modules()]
        convs = [m for m in modules if isinstance(m, nn.Conv2d)]
        norms = [m for m in modules if isinstance(m, nn.GroupNorm)]
        assert len(convs) == 3
        assert all((conv.bias is None) == (groups is not None) for conv in convs)
        assert [norm.num_groups for norm in norms] == ([] if groups is None else [groups] * 3)

    def test_without_convolutions_is_the_identity(self, groups: int | None) -> None:
        x = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1)
        assert torch.equal(tower(2, 0, groups)(x), x)


def test_initialise_starts_small_and_at_the_prior() -> None:
    torch.manual_seed(0)
    cls, box = predictor(32, 5), predictor(32, 4)
    head = nn.ModuleList([tower(32, 2, None), cls, box])
    initialise(head, cls)
    for conv in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        if conv is not cls:
            assert not conv.bias.any()
    scores = cls(torch.zeros(1, 32, 2, 2)).sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, PRIOR))
    assert cls.bias[0].item() == pytest.approx(-math.log(99))


class TestExact:
    """What becomes pixels, or is multiplied with a score, is float32 under autocast too."""

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_convolution_in_float32(self, dtype: torch.dtype) -> None:
        conv = exact_predictor(8, 4)
        x = torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
        with torch.autocast("cpu", dtype):
            found = conv(x)
        assert found.dtype == torch.float32
        plain = nn.functional.conv2d(x.float(), conv.weight, conv.bias, padding=1)
        assert torch.equal(found, plain)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_in_the_type_of_its_weights(self, dtype: torch.dtype) -> None:
        conv = exact_predictor(8, 4).to(dtype)
        assert conv(torch.randn(2, 8, 5, 6, dtype=dtype)).dtype == dtype

    def test_the_same_convolution_exact(self) -> None:
        options = {"stride": 2, "padding": (1, 0), "groups": 2, "dilation": 2}
        conv = nn.Conv2d(4, 6, (3, 1), **options, padding_mode="reflect").eval()
        found = exact(conv)
        x = torch.randn(1, 4, 9, 9)
        assert torch.equal(found(x), conv(x))
        assert found.weight is conv.weight and found.bias is conv.bias and not found.training

    def test_group_norm_of_a_single_value_is_its_bias(self) -> None:
        """In company or alone: PyTorch's own refuses it for one image."""
        norm = GroupNorm(4, 4)
        nn.init.constant_(norm.bias, 0.25)
        x = torch.randn(2, 4, 1, 1)
        assert (norm(x) - 0.25).abs().max() < 1e-4
        assert torch.equal(norm(x[:1]), norm(x)[:1])
        y = torch.randn(2, 4, 3, 3)
        assert torch.equal(norm(y), nn.GroupNorm.forward(norm, y))


@pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "atss"])
def test_every_head_predicts_boxes_and_quality_exactly(
    head: str, tiny_detector: Callable[..., Detector]
) -> None:
    found = tiny_detector(head=head).head
    exact_ones = {name for name, m in found.named_modules() if isinstance(m, ExactConv2d)}
    assert exact_ones == {"box"} | ({"quality"} if head in ("fcos", "atss") else set())


def test_boxes_of_large_objects_keep_their_pixels_in_bf16(
    tiny_detector: Callable[..., Detector],
) -> None:
    """FCOS predicts the logarithm of a distance: of 400 pixels bfloat16 keeps steps of 12."""
    detector = tiny_detector(head="fcos")
    nn.init.constant_(detector.head.box.bias, math.log(400))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = detector(images).boxes
        with torch.autocast("cpu", torch.bfloat16):
            found = detector(images).boxes
    assert (expected[..., 2] - expected[..., 0]).mean() > 700
    assert (found - expected).abs().max() < 1

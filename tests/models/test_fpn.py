from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.models.fpn import FPN, ExtraLevels

CHANNELS = (4, 6, 8)
KINDS: tuple[ExtraLevels, ...] = get_args(ExtraLevels)


def fpn(levels: int = 5, extra: ExtraLevels = "output") -> FPN:
    """With biases, so that a ReLU in the wrong place shows."""
    torch.manual_seed(0)
    pyramid = FPN(CHANNELS, 5, levels, extra)
    with torch.no_grad():
        for conv in pyramid.output:
            conv.bias.normal_()
    return pyramid


def backbone_maps(
    shapes: tuple[tuple[int, int], ...] = ((15, 20), (8, 10), (4, 5)),
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    pairs = zip(CHANNELS, shapes, strict=True)
    return [torch.randn(2, c, *shape, generator=generator) for c, shape in pairs]


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Each cell takes the value of the coarse cell that its start falls into."""
    rows = [row * x.shape[2] // height for row in range(height)]
    columns = [column * x.shape[3] // width for column in range(width)]
    return x[:, :, rows][:, :, :, columns]


def naive_pyramid(pyramid: FPN, maps: list[Tensor], levels: int, extra: ExtraLevels) -> list:
    """The pyramid as the papers tell it: level by level."""
    lateral = [
        F.conv2d(x, conv.weight, conv.bias) for conv, x in zip(pyramid.lateral, maps, strict=True)
    ]
    p5 = lateral[2]
    p4 = lateral[1] + nearest(p5, *lateral[1].shape[2:])
    p3 = lateral[0] + nearest(p4, *lateral[0].shape[2:])
    found = [
        F.conv2d(x, conv.weight, conv.bias, padding=1)
        for conv, x in zip(pyramid.output[:3], (p3, p4, p5), strict=True)
    ]
    for level in range(3, levels):
        source = found[-1]
        if level == 3 and extra == "input":
            source = maps[-1]
        if level > 3 and extra == "output, relu":
            source = source.clamp(min=0)
        conv = pyramid.output[level]
        found.append(F.conv2d(source, conv.weight, conv.bias, stride=2, padding=1))
    return found


@pytest.mark.parametrize("levels", [3, 4, 5, 6])
@pytest.mark.parametrize("extra", KINDS)
def test_agrees_with_the_naive_pyramid(extra: ExtraLevels, levels: int) -> None:
    pyramid, maps = fpn(levels, extra), backbone_maps()
    expected = naive_pyramid(pyramid, maps, levels, extra)
    for ours, theirs in zip(pyramid(maps), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("extra", KINDS)
def test_levels_halve(extra: ExtraLevels) -> None:
    maps = backbone_maps(((16, 20), (8, 10), (4, 5)))
    shapes = [tuple(x.shape) for x in fpn(extra=extra)(maps)]
    assert shapes == [(2, 5, h, w) for h, w in ((16, 20), (8, 10), (4, 5), (2, 3), (1, 2))]


def moved_levels(pyramid: FPN, maps: list[Tensor], changed: int) -> list[bool]:
    """Which levels a change of one of the backbone's maps reaches."""
    before = pyramid(maps)
    after = pyramid([x + (i == changed) for i, x in enumerate(maps)])
    return [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]


def test_coarse_maps_reach_fine_ones_and_not_the_other_way() -> None:
    pyramid, maps = fpn(levels=4), backbone_maps()
    assert [moved_levels(pyramid, maps, n) for n in range(3)] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, True],
    ]


@pytest.mark.parametrize("extra", KINDS)
def test_only_the_extra_levels_tell_the_kinds_apart(extra: ExtraLevels) -> None:
    plain, other, maps = fpn(extra="output"), fpn(extra=extra), backbone_maps()
    for name in ("lateral", "output"):
        convs = zip(getattr(plain, name), getattr(other, name), strict=True)
        for conv, copy in convs:
            if conv.weight.shape == copy.weight.shape:
                copy.load_state_dict(conv.state_dict())
    pairs = zip(plain(maps), other(maps), strict=True)
    # P6 of "output, relu" still comes from P5 as it is; the ReLU is between P6 and P7.
    same = [one.shape == two.shape and torch.equal(one, two) for one, two in pairs]
    expected = {
        "output": [True] * 5,
        "output, relu": [True, True, True, True, False],
        "input": [True, True, True, False, False],
    }
    assert same == expected[extra]


@pytest.mark.parametrize("extra", KINDS)
def test_every_weight_learns(extra: ExtraLevels) -> None:
    pyramid = fpn(extra=extra)
    sum(x.square().sum() for x in pyramid(backbone_maps())).backward()
    for name, p in pyramid.named_parameters():
        assert p.grad is not None and p.grad.any() and p.grad.isfinite().all(), name


def test_starts_with_zero_biases() -> None:
    pyramid = FPN(CHANNELS, 5, 5)
    assert not any(conv.bias.any() for conv in [*pyramid.lateral, *pyramid.output])


def test_starts_with_xavier_weights() -> None:
    """Uniform within sqrt(6 / (fan in + fan out)), as mmdetection 2.28 `necks/fpn.py`."""
    torch.manual_seed(0)
    pyramid = FPN((40, 60, 80), 50, 5)
    for conv in [*pyramid.lateral, *pyramid.output]:
        area = conv.kernel_size[0] * conv.kernel_size[1]
        bound = (6 / (area * (conv.in_channels + conv.out_channels))) ** 0.5
        assert 0.99 * bound < conv.weight.abs().max() <= bound
        assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)

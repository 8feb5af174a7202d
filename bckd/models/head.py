"""What the four heads share: towers, one factor a level, and maps as rows of locations.

A head is two towers over every pyramid level, then one convolution for class logits and
one for boxes; it differs from another in what a box is made of. Its file has the head and
`decode`, which makes a dense output of the raw maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

PRIOR = 0.01  # initial score of every class at every location


class Scale(nn.Module):
    """One learnable factor; each pyramid level has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def tower(channels: int, convs: int, groups: int | None) -> nn.Sequential:
    """3x3 convolutions with ReLU, and GroupNorm between unless `groups` is None."""
    return nn.Sequential(*(_layer(channels, groups) for _ in range(convs)))


def _layer(channels: int, groups: int | None) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=groups is None)
    norm = [] if groups is None else [nn.GroupNorm(groups, channels)]
    return nn.Sequential(conv, *norm, nn.ReLU(inplace=True))


def predictor(channels: int, outputs: int) -> nn.Conv2d:
    """The convolution behind a tower."""
    return nn.Conv2d(channels, outputs, 3, padding=1)


def initialise(head: nn.Module, cls: nn.Conv2d) -> None:
    """Small normal weights, zero biases; every class starts at a score of `PRIOR`."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.constant_(cls.bias, -math.log((1 - PRIOR) / PRIOR))


def flatten_maps(maps: Sequence[Tensor], values: int) -> Tensor:
    """Maps of all levels as rows of locations, in float32.

    Args:
        maps: (N, B * values, H, W) a level, with B locations a cell.
        values: numbers of one location.

    Returns:
        (N, A, values): levels from fine to coarse, each row by row, a cell's locations together.
    """
    rows = [x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in maps]
    return torch.cat(rows, dim=1).float()


def shapes_of(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each level's map."""
    return [tuple(x.shape[-2:]) for x in maps]

"""What heads are built of: towers, one factor a level, and maps as rows of locations."""

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


class GroupNorm(nn.GroupNorm):
    """PyTorch's, also where a group is one channel and the map one cell: 0, and then the bias.

    PyTorch's own refuses that of a single image, though no image sees another one here. In a
    compiled graph it gives the type that it takes, with sums in float32, where autocast would
    give float32: it is fused with what stands around it, and moves half the bytes.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._in_primitives(x)
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def _in_primitives(self, x: Tensor) -> Tensor:
        # PyTorch's own operation would have its backward pass bring maps into another memory
        # format and back; these keep the one that the convolutions have.
        grouped = x.float().unflatten(1, (self.num_groups, -1))
        variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), keepdim=True, correction=0)
        normal = ((grouped - mean) * (variance + self.eps).rsqrt()).flatten(1, 2)
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def tower(channels: int, convs: int, groups: int | None) -> nn.Sequential:
    """3x3 convolutions with ReLU, and GroupNorm between unless `groups` is None."""
    return nn.Sequential(*(_layer(channels, groups) for _ in range(convs)))


def _layer(channels: int, groups: int | None) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=groups is None)
    norm = [] if groups is None else [GroupNorm(groups, channels)]
    return nn.Sequential(conv, *norm, nn.ReLU(inplace=True))


class ExactConv2d(nn.Conv2d):
    """A convolution that computes in the type of its weights, float32, also under autocast.

    For what becomes pixels, or is multiplied with a score: of a number about 6, the logarithm of
    a distance of 400 pixels, bfloat16 keeps steps of 1/32, which are 12 pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def exact(conv: nn.Conv2d) -> ExactConv2d:
    """The same convolution, with the same parameters, in float32."""
    # The stubs give the sizes of a Conv2d as tuples of any length.
    found = ExactConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    found.weight, found.bias = conv.weight, conv.bias
    return found.train(conv.training)


def predictor(channels: int, outputs: int) -> nn.Conv2d:
    """The convolution behind a tower that gives class logits."""
    return nn.Conv2d(channels, outputs, 3, padding=1)


def exact_predictor(channels: int, outputs: int) -> ExactConv2d:
    """The convolution behind a tower that gives boxes, or their quality."""
    return ExactConv2d(channels, outputs, 3, padding=1)


def initialise(head: nn.Module, cls: nn.Conv2d) -> None:
    """Small normal weights, zero biases; every class starts at a score of `PRIOR`."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    assert cls.bias is not None  # see `predictor`
    nn.init.constant_(cls.bias, -math.log((1 - PRIOR) / PRIOR))


def flatten_maps(maps: Sequence[Tensor], values: int) -> Tensor:
    """Maps of all levels as rows of locations, in float32.

    Args:
        maps: (N, B * values, H, W) a level, with B locations a cell.
        values: numbers of one location.

    Returns:
        (N, A, values): levels from fine to coarse, each row by row, a cell's locations together.
    """
    # Not `len(x)`, which an exporter would take for a constant.
    rows = [x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values) for x in maps]
    return torch.cat(rows, dim=1).float()


def shapes_of(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each level's map."""
    return [(x.shape[-2], x.shape[-1]) for x in maps]

"""The GFL head: classification scores that are qualities, boxes as distributions.

Li et al., NeurIPS 2020 (arXiv 2006.04388); mmdetection 2.28
`models/dense_heads/gfl_head.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bckd.geometry import distances_to_boxes, grid
from bckd.structures import DenseOutput

PRIOR = 0.01  # initial score of every class at every location


class Scale(nn.Module):
    """One learnable factor; each pyramid level has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GFLHead(nn.Module):
    """Two towers of 3x3 convolutions with GroupNorm, shared by all levels.

    Args:
        num_classes: K.
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower.
        groups: of GroupNorm.
        reg_max: a side is a distribution over 0, 1, ..., reg_max strides.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        convs: int = 4,
        groups: int = 32,
        reg_max: int = 16,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.cls_tower = nn.Sequential(*(_conv_norm_relu(channels, groups) for _ in range(convs)))
        self.box_tower = nn.Sequential(*(_conv_norm_relu(channels, groups) for _ in range(convs)))
        self.cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box = nn.Conv2d(channels, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        cls_maps = [self.cls(self.cls_tower(x)) for x in pyramid]
        box_maps = [
            scale(self.box(self.box_tower(x)).float())
            for scale, x in zip(self.scales, pyramid, strict=True)
        ]
        return decode(cls_maps, box_maps, self.strides, tuple(pyramid))


def _conv_norm_relu(channels: int, groups: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.GroupNorm(groups, channels),
        nn.ReLU(inplace=True),
    )


def flatten_map(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H * W, C): one row a location, rows of the image in order."""
    return x.flatten(2).transpose(1, 2)


def decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    strides: Sequence[int],
    features: tuple[Tensor, ...] = (),
) -> DenseOutput:
    """Dense output from raw maps of every level.

    Args:
        cls_maps: (N, K, H, W) logits a level.
        box_maps: (N, 4 * bins, H, W) logits a level, side-major: all bins of
            left, then of top, right, bottom.
        strides: pixels per cell of each level.

    A side's distance is the mean of its distribution (GFL paper), in strides.
    """
    locations = grid([x.shape[-2:] for x in cls_maps], strides, device=cls_maps[0].device)
    cls_logits = torch.cat([flatten_map(x) for x in cls_maps], dim=1).float()
    box_logits = torch.cat([flatten_map(x) for x in box_maps], dim=1).float()
    box_logits = box_logits.unflatten(-1, (4, -1))  # (N, A, 4, bins)
    bins = torch.arange(box_logits.shape[-1], device=box_logits.device, dtype=torch.float32)
    with torch.autocast(box_logits.device.type, enabled=False):  # bf16 would cost pixels here
        distances = (box_logits.softmax(-1) @ bins) * locations.strides[:, None]
    boxes = distances_to_boxes(locations.centres.expand(len(distances), -1, -1), distances)
    return DenseOutput(cls_logits, boxes, locations, box_logits=box_logits, features=features)

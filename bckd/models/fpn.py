"""Feature pyramid (Lin et al., CVPR 2017) with extra levels from its own output."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """P3 to P5 from C3 to C5, then P6, P7, ... each a strided convolution of the last.

    As in mmdetection's GFL recipe: `add_extra_convs="on_output"`, no activation
    between the extra levels, nearest-neighbour upsampling to the finer map's size.
    """

    def __init__(self, channels_in: Sequence[int], channels: int, levels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in channels_in)
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=1 if i < len(channels_in) else 2, padding=1)
            for i in range(levels)
        )
        for conv in [*self.lateral, *self.output]:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps (N, channels, H, W), fine to coarse, from the backbone's maps."""
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for fine in range(len(merged) - 2, -1, -1):
            size = merged[fine].shape[-2:]
            merged[fine] = merged[fine] + F.interpolate(merged[fine + 1], size=size)
        pyramid = [conv(x) for conv, x in zip(self.output, merged, strict=False)]
        for conv in self.output[len(merged) :]:
            pyramid.append(conv(pyramid[-1]))
        return pyramid

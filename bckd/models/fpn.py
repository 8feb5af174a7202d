"""Feature pyramid (Lin et al., CVPR 2017) with extra levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

ExtraLevels = Literal["output", "output, relu", "input"]


class FPN(nn.Module):
    """P3 to P5 from C3 to C5, then P6, P7, ... each a strided convolution of the last.

    As in mmdetection 2.28 `models/necks/fpn.py`; nearest-neighbour upsampling to the finer
    map's size.

    Args:
        channels_in: of the backbone's maps.
        channels: of the pyramid's.
        levels: L.
        extra: P6 comes from P5's "output" or from the pyramid's "input" C5; "output, relu"
            has a ReLU before P7 and what follows (`relu_before_extra_convs`).
    """

    def __init__(
        self,
        channels_in: Sequence[int],
        channels: int,
        levels: int,
        extra: ExtraLevels = "output",
    ) -> None:
        super().__init__()
        self.extra, maps = extra, len(channels_in)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in channels_in)
        sources = [channels] * levels
        if extra == "input" and levels > maps:
            sources[maps] = channels_in[-1]
        self.output = nn.ModuleList(
            nn.Conv2d(source, channels, 3, stride=1 if i < maps else 2, padding=1)
            for i, source in enumerate(sources)
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
        source = maps[-1] if self.extra == "input" else pyramid[-1]
        for conv in self.output[len(merged) :]:
            pyramid.append(conv(source))
            source = pyramid[-1].relu() if self.extra == "output, relu" else pyramid[-1]
        return pyramid

"""Swin-T (Liu et al., ICCV 2021, arXiv 2103.14030), torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from bckd.models.backbones.base import Backbone, torchvision_model

if TYPE_CHECKING:  # torchvision is loaded where a network is built
    from torchvision.models.swin_transformer import SwinTransformer

PATCH = 4  # side of a patch, in pixels


class SwinT(Backbone):
    """torchvision's Swin-T, each map through a LayerNorm of its own.

    The maps of a Swin stage leave it unnormalised. As mmdetection 2.28
    `models/backbones/swin.py` (`norm1` to `norm3`) does, a LayerNorm over the channels of
    each map comes before the pyramid; it has no ImageNet weights and starts as 1 and 0. Sides
    that 32 does not divide are padded with zeros on the right and bottom where a patch or a
    merging needs it, as there.

    Training drops residual branches at random (stochastic depth, up to .2 in the last block,
    torchvision's rate and that of mmdetection's configurations).

    Args:
        weights: name of torchvision's ImageNet weights, or None.
        frozen_stages: 0 for none, 1 for the patch embedding and the first stage, up to 4. As
            in the paper a stage is the merging of patches and the blocks that follow; the
            LayerNorm of a frozen stage's map is frozen with it.
        norm_eval: has no effect: there is no BatchNorm.

    Raises:
        InputError: no such weights.
    """

    channels = (192, 384, 768)

    def __init__(self, weights: str | None, frozen_stages: int, norm_eval: bool) -> None:
        super().__init__()
        net: SwinTransformer = torchvision_model("swin_t", weights)
        # torchvision alternates the embedding or merging of patches with the blocks.
        self.stages = nn.ModuleList(net.features[first : first + 2] for first in (0, 2, 4, 6))
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in self.channels)
        norms = self.norms[: max(frozen_stages - 1, 0)]  # the first stage gives no map
        self.freeze([*self.stages[:frozen_stages], *norms], norm_eval)

    def undecayed(self) -> Iterator[nn.Parameter]:
        """LayerNorms and position tables (mmdetection 2.28 `configs/swin`)."""
        from torchvision.models.swin_transformer import ShiftedWindowAttention

        for part in self.modules():
            if isinstance(part, nn.LayerNorm):
                yield from part.parameters()
            elif isinstance(part, ShiftedWindowAttention):
                yield part.relative_position_bias_table

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of C3 to C5, (N, C, H, W) each, of normalised images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        x, maps = F.pad(images, (0, -width % PATCH, 0, -height % PATCH)), []
        for stage in self.stages:
            x = stage(x)  # (N, H, W, C)
            maps.append(x)
        # The permuted view of (N, H, W, C) is a map in channels-last memory.
        return [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self.norms, maps[1:], strict=True)]

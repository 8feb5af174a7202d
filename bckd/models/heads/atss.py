"""The ATSS head: one square anchor a cell, boxes as offsets from it, and its centerness.

Zhang et al., CVPR 2020 (arXiv 1912.02424); mmdetection 2.28
`models/dense_heads/atss_head.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bckd.geometry import deltas_to_boxes, grid, with_anchors
from bckd.models.heads.shared import (
    Defaults,
    Scale,
    exact_predictor,
    flatten_maps,
    initialise,
    predictor,
    shapes_of,
    tower,
)
from bckd.structures import DenseOutput

DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)  # what is predicted, times these, is the delta


class ATSSHead(nn.Module):
    """One square anchor a cell; a box is a scaled offset from it.

    Args:
        num_classes: K.
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower.
        groups: of GroupNorm.
        anchor_scale: side of an anchor, in strides.
    """

    defaults = Defaults(extra_levels="output", nms_iou=0.6)

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        convs: int = 4,
        groups: int = 32,
        anchor_scale: float = 8.0,
    ) -> None:
        super().__init__()
        self.strides, self.anchor_scale = tuple(strides), anchor_scale
        self.cls_tower = tower(channels, convs, groups)
        self.box_tower = tower(channels, convs, groups)
        self.cls = predictor(channels, num_classes)
        self.box = exact_predictor(channels, 4)
        self.quality = exact_predictor(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        initialise(self, self.cls)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        cls_maps = [self.cls(self.cls_tower(x)) for x in pyramid]
        towers = [self.box_tower(x) for x in pyramid]
        box_maps = [scale(self.box(x)) for scale, x in zip(self.scales, towers, strict=True)]
        quality_maps = [self.quality(x) for x in towers]
        maps = (cls_maps, box_maps, quality_maps)
        return decode(*maps, self.strides, self.anchor_scale, tuple(pyramid))


def decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    quality_maps: Sequence[Tensor],
    strides: Sequence[int],
    anchor_scale: float = 8.0,
    features: tuple[Tensor, ...] = (),
) -> DenseOutput:
    """Dense output from raw maps of every level.

    Args:
        cls_maps: (N, K, H, W) logits a level.
        box_maps: (N, 4, H, W) deltas over `DELTA_SCALE` a level.
        quality_maps: (N, 1, H, W) centerness logits a level.
        strides: pixels per cell of each level.
        anchor_scale: side of an anchor, in strides.
    """
    locations = grid(shapes_of(cls_maps), strides, device=cls_maps[0].device)
    locations = with_anchors(locations, [(anchor_scale, anchor_scale)])
    cls_logits = flatten_maps(cls_maps, cls_maps[0].shape[1])
    deltas = flatten_maps(box_maps, 4) * torch.tensor(DELTA_SCALE, device=cls_logits.device)
    quality = flatten_maps(quality_maps, 1).squeeze(-1)
    boxes = deltas_to_boxes(locations.anchors, deltas)
    return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)

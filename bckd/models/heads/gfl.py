"""The GFL head: class scores that are qualities, boxes as distributions of four side distances.

Li et al., NeurIPS 2020 (arXiv 2006.04388); mmdetection 2.28
`models/dense_heads/gfl_head.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bckd.geometry import distances_to_boxes, grid, with_anchors
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


class GFLHead(nn.Module):
    """One square anchor a cell; a side is the mean of a distribution.

    Args:
        num_classes: K.
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower.
        groups: of GroupNorm.
        anchor_scale: side of an anchor, in strides.
        reg_max: a side is a distribution over 0, 1, ..., reg_max strides.
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
        reg_max: int = 16,
    ) -> None:
        super().__init__()
        self.strides, self.anchor_scale = tuple(strides), anchor_scale
        self.cls_tower = tower(channels, convs, groups)
        self.box_tower = tower(channels, convs, groups)
        self.cls = predictor(channels, num_classes)
        self.box = exact_predictor(channels, 4 * (reg_max + 1))
        self.scales = nn.ModuleList(Scale() for _ in strides)
        initialise(self, self.cls)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        cls_maps = [self.cls(self.cls_tower(x)) for x in pyramid]
        box_maps = [
            scale(self.box(self.box_tower(x)))
            for scale, x in zip(self.scales, pyramid, strict=True)
        ]
        return decode(cls_maps, box_maps, self.strides, self.anchor_scale, tuple(pyramid))


def decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    strides: Sequence[int],
    anchor_scale: float = 8.0,
    features: tuple[Tensor, ...] = (),
    offset: float = 0.0,
) -> DenseOutput:
    """Dense output from raw maps of every level.

    Args:
        cls_maps: (N, K, H, W) logits a level.
        box_maps: (N, 4 * bins, H, W) logits a level, side-major: all bins of
            left, then of top, right, bottom.
        strides: pixels per cell of each level.
        anchor_scale: side of an anchor, in strides.
        offset: of the centres, in cells (NanoDet: .5).

    A side's distance is the mean of its distribution (GFL paper), in strides.
    """
    locations = grid(shapes_of(cls_maps), strides, device=cls_maps[0].device, offset=offset)
    locations = with_anchors(locations, [(anchor_scale, anchor_scale)])
    cls_logits = flatten_maps(cls_maps, cls_maps[0].shape[1])
    box_logits = flatten_maps(box_maps, box_maps[0].shape[1]).unflatten(-1, (4, -1))
    bins = torch.arange(box_logits.shape[-1], device=box_logits.device, dtype=torch.float32)
    with torch.autocast(box_logits.device.type, enabled=False):  # bf16 would cost pixels here
        distances = (box_logits.softmax(-1) @ bins) * locations.strides[:, None]
    boxes = distances_to_boxes(locations.centres.expand(len(distances), -1, -1), distances)
    return DenseOutput(cls_logits, boxes, locations, box_logits=box_logits, features=features)

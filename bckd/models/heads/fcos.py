"""The FCOS head: no anchors, boxes as four distances from a point, and its centerness.

Tian et al., ICCV 2019 (arXiv 1904.01355); mmdetection 2.28
`models/dense_heads/fcos_head.py` (centerness beside the class logits, distances in pixels).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bckd.geometry import distances_to_boxes, grid
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


class FCOSHead(nn.Module):
    """One point a cell, at its middle; a side is the exponential of what is predicted.

    Args:
        num_classes: K.
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower.
        groups: of GroupNorm.
    """

    defaults = Defaults(extra_levels="output, relu", nms_iou=0.5)

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        convs: int = 4,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.cls_tower = tower(channels, convs, groups)
        self.box_tower = tower(channels, convs, groups)
        self.cls = predictor(channels, num_classes)
        self.box = exact_predictor(channels, 4)
        self.quality = exact_predictor(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        initialise(self, self.cls)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        towers = [self.cls_tower(x) for x in pyramid]
        cls_maps = [self.cls(x) for x in towers]
        quality_maps = [self.quality(x) for x in towers]
        box_maps = [
            scale(self.box(self.box_tower(x))).exp()
            for scale, x in zip(self.scales, pyramid, strict=True)
        ]
        return decode(cls_maps, box_maps, quality_maps, self.strides, tuple(pyramid))


def decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    quality_maps: Sequence[Tensor],
    strides: Sequence[int],
    features: tuple[Tensor, ...] = (),
) -> DenseOutput:
    """Dense output from maps of every level.

    Args:
        cls_maps: (N, K, H, W) logits a level.
        box_maps: (N, 4, H, W) left, top, right, bottom distances in pixels a level.
        quality_maps: (N, 1, H, W) centerness logits a level.
        strides: pixels per cell of each level.
    """
    locations = grid(shapes_of(cls_maps), strides, device=cls_maps[0].device, offset=0.5)
    cls_logits = flatten_maps(cls_maps, cls_maps[0].shape[1])
    distances = flatten_maps(box_maps, 4)
    quality = flatten_maps(quality_maps, 1).squeeze(-1)
    boxes = distances_to_boxes(locations.centres.expand(len(distances), -1, -1), distances)
    return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)

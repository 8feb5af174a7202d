"""The RetinaNet head: nine anchors a cell, boxes as offsets from them.

Lin et al., ICCV 2017 (arXiv 1708.02002); mmdetection 2.28
`models/dense_heads/retina_head.py` and `core/anchor/anchor_generator.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from bckd.geometry import deltas_to_boxes, grid, with_anchors
from bckd.models.heads.shared import (
    Defaults,
    exact_predictor,
    flatten_maps,
    initialise,
    predictor,
    shapes_of,
    tower,
)
from bckd.structures import DenseOutput

OCTAVES = (0, 1 / 3, 2 / 3)  # the sides of a cell's anchors, in powers of two
RATIOS = (0.5, 1.0, 2.0)  # height over width


class RetinaNetHead(nn.Module):
    """Nine anchors a cell (three sizes, three ratios), each with its own logits and box.

    Args:
        num_classes: K.
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower; without normalisation, as published.
        anchor_scale: side of the smallest square anchor, in strides.
    """

    defaults = Defaults(extra_levels="input", nms_iou=0.5, anchor_scale=4.0)

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        convs: int = 4,
        anchor_scale: float = 4.0,
    ) -> None:
        super().__init__()
        self.strides, self.anchor_scale = tuple(strides), anchor_scale
        per_cell = len(OCTAVES) * len(RATIOS)
        self.cls_tower = tower(channels, convs, groups=None)
        self.box_tower = tower(channels, convs, groups=None)
        self.cls = predictor(channels, per_cell * num_classes)
        self.box = exact_predictor(channels, per_cell * 4)
        initialise(self, self.cls)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        cls_maps = [self.cls(self.cls_tower(x)) for x in pyramid]
        box_maps = [self.box(self.box_tower(x)) for x in pyramid]
        return decode(cls_maps, box_maps, self.strides, self.anchor_scale, tuple(pyramid))


def decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    strides: Sequence[int],
    anchor_scale: float = 4.0,
    features: tuple[Tensor, ...] = (),
) -> DenseOutput:
    """Dense output from raw maps of every level.

    Args:
        cls_maps: (N, 9 * K, H, W) logits a level, anchor-major.
        box_maps: (N, 9 * 4, H, W) deltas a level, anchor-major.
        strides: pixels per cell of each level.
        anchor_scale: side of the smallest square anchor, in strides.
    """
    locations = grid(shapes_of(cls_maps), strides, device=cls_maps[0].device)
    locations = with_anchors(locations, anchor_shapes(anchor_scale))
    per_cell = locations.levels[0].per_cell
    cls_logits = flatten_maps(cls_maps, cls_maps[0].shape[1] // per_cell)
    deltas = flatten_maps(box_maps, 4)
    boxes = deltas_to_boxes(locations.anchors, deltas)
    return DenseOutput(cls_logits, boxes, locations, deltas=deltas, features=features)


def anchor_shapes(scale: float) -> list[tuple[float, float]]:
    """(width, height) of a cell's nine anchors in strides: each ratio in all sizes.

    In float32, as the official code computes them, and on the host.
    """
    stretch = np.sqrt(np.float32(RATIOS))[:, None]
    sizes = np.float32(scale) * np.float32([2**octave for octave in OCTAVES])
    widths, heights = 1 / stretch * sizes, stretch * sizes
    return list(zip(widths.ravel().tolist(), heights.ravel().tolist(), strict=True))

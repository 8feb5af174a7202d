"""The RetinaNet head: nine anchors a cell, boxes as offsets from them.

Lin et al., ICCV 2017 (arXiv 1708.02002); mmdetection 2.28
`models/dense_heads/retina_head.py` and `core/anchor/anchor_generator.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bckd.assigners import AssignmentRules, assign_max_iou
from bckd.geometry import boxes_to_deltas, deltas_to_boxes, grid, with_anchors
from bckd.losses.options import LossOptions
from bckd.losses.rows import Rows
from bckd.losses.supervised import focal_term
from bckd.models.heads.head import Defaults, HeadSettings, SupervisedTerm
from bckd.models.heads.layers import (
    exact_predictor,
    flatten_maps,
    initialise,
    predictor,
    shapes_of,
    tower,
)
from bckd.models.heads.towers import TowerHead
from bckd.structures import Assignment, DenseOutput, GroundTruth, Locations

OCTAVES = (0, 1 / 3, 2 / 3)  # the sides of a cell's anchors, in powers of two
RATIOS = (0.5, 1.0, 2.0)  # height over width


class RetinaNetHead(TowerHead):
    """Nine anchors a cell (three sizes, three ratios), each with its own logits and box."""

    title = "RetinaNet"
    official = ("retina_cls", "retina_reg")
    reads = ("anchors", "deltas")
    defaults = Defaults(extra_levels="input", nms_iou=0.5, anchor_scale=4.0)
    terms = {
        "focal": SupervisedTerm(1.0, "focal loss"),
        "l1": SupervisedTerm(1.0, "L1 loss of the deltas"),
    }

    def __init__(self, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_classes, settings)
        self.anchor_shapes = anchor_shapes(settings.anchor_scale)
        channels, convs = settings.channels, settings.convs
        per_cell = len(OCTAVES) * len(RATIOS)
        self.cls_tower = tower(channels, convs, groups=None)
        self.box_tower = tower(channels, convs, groups=None)
        self.cls = predictor(channels, per_cell * num_classes)
        self.box = exact_predictor(channels, per_cell * 4)
        initialise(self, self.cls)

    def from_maps(
        self,
        for_classes: Sequence[Tensor],
        for_boxes: Sequence[Tensor],
        features: tuple[Tensor, ...] = (),
    ) -> DenseOutput:
        """Dense output of the L maps (N, channels, H, W) that each tower is given."""
        cls_maps = [self.cls(self.cls_tower(x)) for x in for_classes]
        box_maps = [self.box(self.box_tower(x)) for x in for_boxes]
        return _decode(cls_maps, box_maps, self.strides, self.anchor_shapes, features)

    @staticmethod
    def locations(
        shapes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        anchor_scale: float = 4.0,
        device: torch.device | str = "cpu",
    ) -> Locations:
        """Nine anchors a cell."""
        return with_anchors(grid(shapes, strides, device=device), anchor_shapes(anchor_scale))

    @staticmethod
    def assign(
        output: DenseOutput,
        ground_truth: GroundTruth,
        padded_sizes: Tensor,
        rules: AssignmentRules,
    ) -> Assignment:
        """By the largest IoU; it has no valuable region."""
        classes = output.cls_logits.shape[-1]
        known = (ground_truth, padded_sizes, classes, rules.crowd, rules.images_per_group)
        return assign_max_iou(output.locations, *known)

    @staticmethod
    def losses(
        output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        """By `retinanet_losses`."""
        return retinanet_losses(output, assignment)


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
    return _decode(cls_maps, box_maps, strides, anchor_shapes(anchor_scale), features)


def _decode(
    cls_maps: Sequence[Tensor],
    box_maps: Sequence[Tensor],
    strides: Sequence[int],
    shapes: Sequence[tuple[float, float]],
    features: tuple[Tensor, ...],
) -> DenseOutput:
    locations = grid(shapes_of(cls_maps), strides, device=cls_maps[0].device)
    locations = with_anchors(locations, shapes)
    per_cell = locations.levels[0].per_cell
    cls_logits = flatten_maps(cls_maps, cls_maps[0].shape[1] // per_cell)
    deltas = flatten_maps(box_maps, 4)
    assert locations.anchors is not None
    boxes = deltas_to_boxes(locations.anchors, deltas)
    return DenseOutput(cls_logits, boxes, locations, deltas=deltas, features=features)


def anchor_shapes(scale: float) -> list[tuple[float, float]]:
    """(width, height) of a cell's nine anchors in strides: each ratio in all sizes.

    In float32, as the official code computes them, and on the host.
    """
    stretch = np.sqrt(np.asarray(RATIOS, np.float32))[:, None]
    sizes = np.float32(scale) * np.asarray([2**octave for octave in OCTAVES], np.float32)
    widths, heights = 1 / stretch * sizes, stretch * sizes
    return list(zip(widths.ravel().tolist(), heights.ravel().tolist(), strict=True))


def retinanet_losses(output: DenseOutput, assignment: Assignment) -> dict[str, Tensor]:
    """The two unweighted supervised losses of a batch.

    Args:
        output: the student's, with deltas from its anchors.
        assignment: of the same locations.

    Returns:
        "focal": focal loss of all counted locations; "l1": distance of the positives' deltas
        to their targets'. Both are sums over the number of positives.
    """
    positives = Rows.where(assignment.positive)
    anchors = output.locations.anchors
    assert anchors is not None and output.deltas is not None  # as `reads` asks
    boxes = positives.take(assignment.boxes)
    targets = positives.only(boxes_to_deltas(positives.take_each(anchors), boxes))
    l1 = positives.put((positives.take(output.deltas) - targets).abs().sum(dim=-1))
    return {"focal": focal_term(output, assignment), "l1": assignment.over_positives(l1)}

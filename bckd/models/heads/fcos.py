"""The FCOS head: no anchors, boxes as four distances from a point, and its centerness.

Tian et al., ICCV 2019 (arXiv 1904.01355); mmdetection 2.28
`models/dense_heads/fcos_head.py` (centerness beside the class logits, distances in pixels).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bckd.assigners import AssignmentRules, assign_fcos
from bckd.geometry import EPSILON, box_similarity, distances_to_boxes, grid
from bckd.losses.options import LossOptions
from bckd.losses.rows import Rows
from bckd.losses.supervised import centerness_of, centerness_term, focal_term, total_of_groups
from bckd.models.heads.head import Defaults, HeadSettings, SupervisedTerm
from bckd.models.heads.layers import (
    Scale,
    exact_predictor,
    flatten_maps,
    initialise,
    predictor,
    shapes_of,
    tower,
)
from bckd.models.heads.towers import TowerHead
from bckd.structures import Assignment, DenseOutput, GroundTruth, Locations


class FCOSHead(TowerHead):
    """One point a cell, at its middle; a side is the exponential of what is predicted."""

    title = "FCOS"
    official = ("conv_cls", "conv_reg", "conv_centerness")
    reads = ("quality",)
    defaults = Defaults(extra_levels="output, relu", nms_iou=0.5)
    terms = {
        "focal": SupervisedTerm(1.0, "focal loss"),
        "log_iou": SupervisedTerm(1.0, "-log IoU"),
        "centerness": SupervisedTerm(1.0, "centerness loss"),
    }

    def __init__(self, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_classes, settings)
        groups, channels, convs = settings.groups, settings.channels, settings.convs
        self.cls_tower = tower(channels, convs, groups)
        self.box_tower = tower(channels, convs, groups)
        self.cls = predictor(channels, num_classes)
        self.box = exact_predictor(channels, 4)
        self.quality = exact_predictor(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in self.strides)
        initialise(self, self.cls)

    def from_maps(
        self,
        for_classes: Sequence[Tensor],
        for_boxes: Sequence[Tensor],
        features: tuple[Tensor, ...] = (),
    ) -> DenseOutput:
        """Dense output of the L maps (N, channels, H, W) that each tower is given."""
        towers = [self.cls_tower(x) for x in for_classes]
        cls_maps = [self.cls(x) for x in towers]
        quality_maps = [self.quality(x) for x in towers]
        box_maps = [
            scale(self.box(self.box_tower(x))).exp()
            for scale, x in zip(self.scales, for_boxes, strict=True)
        ]
        return decode(cls_maps, box_maps, quality_maps, self.strides, features)

    @staticmethod
    def locations(
        shapes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        anchor_scale: float = 8.0,
        device: torch.device | str = "cpu",
    ) -> Locations:
        """One point a cell, at its middle."""
        return grid(shapes, strides, device=device, offset=0.5)

    @staticmethod
    def assign(
        output: DenseOutput,
        ground_truth: GroundTruth,
        padded_sizes: Tensor,
        rules: AssignmentRules,
    ) -> Assignment:
        """By the ranges of FCOS; it has no valuable region."""
        classes = output.cls_logits.shape[-1]
        known = (ground_truth, classes, rules.crowd, rules.images_per_group)
        return assign_fcos(output.locations, *known)

    @staticmethod
    def losses(
        output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        """By `fcos_losses`."""
        return fcos_losses(output, assignment)


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
    boxes = distances_to_boxes(locations.centres.expand(distances.shape[0], -1, -1), distances)
    return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)


def fcos_losses(output: DenseOutput, assignment: Assignment) -> dict[str, Tensor]:
    """The three unweighted supervised losses of a batch.

    Args:
        output: the student's, with centerness.
        assignment: of the same locations.

    Returns:
        "focal": focal loss of all counted locations over the number of positives;
        "log_iou": -log IoU of the positives' boxes, mean weighted by their target
        centerness; "centerness": cross-entropy with that target over the number of positives.
    """
    assert output.quality is not None  # as `reads` asks
    positives = Rows.where(assignment.positive)
    targets = positives.take(assignment.boxes)
    centres = positives.take_each(output.locations.centres)
    centerness = positives.only(centerness_of(centres, targets))
    total = total_of_groups(centerness, assignment, least=EPSILON)
    iou = box_similarity(positives.take(output.boxes), targets).clamp(min=EPSILON)
    quality = positives.take(output.quality)
    return {
        "focal": focal_term(output, assignment),
        "log_iou": (-iou.log() * centerness).sum() / total,
        "centerness": centerness_term(quality, centerness, positives, assignment),
    }

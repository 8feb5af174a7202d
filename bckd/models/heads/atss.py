"""The ATSS head: one square anchor a cell, boxes as offsets from it, and its centerness.

Zhang et al., CVPR 2020 (arXiv 1912.02424); mmdetection 2.28
`models/dense_heads/atss_head.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bckd.geometry import box_similarity, constants, deltas_to_boxes, grid, with_anchors
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
from bckd.models.heads.one_anchor import OneAnchorHead
from bckd.structures import Assignment, DenseOutput

DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)  # what is predicted, times these, is the delta


class ATSSHead(OneAnchorHead):
    """One square anchor a cell; a box is a scaled offset from it."""

    title = "ATSS"
    official = ("atss_cls", "atss_reg", "atss_centerness")
    reads = ("anchors", "quality")
    defaults = Defaults(extra_levels="output", nms_iou=0.6)
    terms = {
        "focal": SupervisedTerm(1.0, "focal loss"),
        "giou": SupervisedTerm(2.0, "GIoU loss"),
        "centerness": SupervisedTerm(1.0, "centerness loss"),
    }

    def __init__(self, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_classes, settings)
        self.anchor_scale = settings.anchor_scale
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
        cls_maps = [self.cls(self.cls_tower(x)) for x in for_classes]
        towers = [self.box_tower(x) for x in for_boxes]
        box_maps = [scale(self.box(x)) for scale, x in zip(self.scales, towers, strict=True)]
        quality_maps = [self.quality(x) for x in towers]
        maps = (cls_maps, box_maps, quality_maps)
        return decode(*maps, self.strides, self.anchor_scale, features)

    @staticmethod
    def losses(
        output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        """By `atss_losses`."""
        return atss_losses(output, assignment)


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
    deltas = flatten_maps(box_maps, 4) * constants(DELTA_SCALE, cls_logits)
    quality = flatten_maps(quality_maps, 1).squeeze(-1)
    assert locations.anchors is not None
    boxes = deltas_to_boxes(locations.anchors, deltas)
    return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)


def atss_losses(output: DenseOutput, assignment: Assignment) -> dict[str, Tensor]:
    """The three unweighted supervised losses of a batch.

    Args:
        output: the student's, with centerness.
        assignment: of the same locations.

    Returns:
        "focal": focal loss of all counted locations over the number of positives;
        "giou": 1 - GIoU of the positives' boxes, weighted by their target centerness, over
        the sum of it (at least 1); "centerness": cross-entropy with that target over the
        number of positives.
    """
    assert output.quality is not None  # as `reads` asks
    positives = Rows.where(assignment.positive)
    targets = positives.take(assignment.boxes)
    centres = positives.take_each(output.locations.centres)
    centerness = positives.only(centerness_of(centres, targets))
    total = total_of_groups(centerness, assignment, least=1.0)
    giou = box_similarity(positives.take(output.boxes), targets, "giou")
    quality = positives.take(output.quality)
    return {
        "focal": focal_term(output, assignment),
        "giou": ((1 - giou) * centerness).sum() / total,
        "centerness": centerness_term(quality, centerness, positives, assignment),
    }

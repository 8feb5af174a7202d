"""The GFL head: class scores that are qualities, boxes as distributions of four side distances.

Li et al., NeurIPS 2020 (arXiv 2006.04388); mmdetection 2.28
`models/dense_heads/gfl_head.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bckd.geometry import box_similarity, boxes_to_distances, distances_to_boxes, grid, with_anchors
from bckd.losses.focal import distribution_focal_loss, quality_focal_loss
from bckd.losses.options import Divisor, LossOptions
from bckd.losses.rows import Rows
from bckd.losses.supervised import total_of_groups
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


class GFLHead(OneAnchorHead):
    """One square anchor a cell; a side is the mean of a distribution."""

    title = "GFL"
    official = ("gfl_cls", "gfl_reg")
    reads = ("anchors", "box_logits")
    defaults = Defaults(extra_levels="output", nms_iou=0.6)
    terms = {
        "qfl": SupervisedTerm(1.0, "quality focal loss"),
        "dfl": SupervisedTerm(0.25, "distribution focal loss"),
        "giou": SupervisedTerm(2.0, "GIoU loss"),
    }

    def __init__(self, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_classes, settings)
        self.anchor_scale = settings.anchor_scale
        groups, channels, convs = settings.groups, settings.channels, settings.convs
        self.cls_tower = tower(channels, convs, groups)
        self.box_tower = tower(channels, convs, groups)
        self.cls = predictor(channels, num_classes)
        self.box = exact_predictor(channels, 4 * (settings.reg_max + 1))
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
        box_maps = [
            scale(self.box(self.box_tower(x)))
            for scale, x in zip(self.scales, for_boxes, strict=True)
        ]
        return decode(cls_maps, box_maps, self.strides, self.anchor_scale, features)

    @staticmethod
    def losses(
        output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        """By `gfl_losses`."""
        return gfl_losses(output, assignment, options.divisor)


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
    boxes = distances_to_boxes(locations.centres.expand(distances.shape[0], -1, -1), distances)
    return DenseOutput(cls_logits, boxes, locations, box_logits=box_logits, features=features)


def gfl_losses(
    output: DenseOutput, assignment: Assignment, divisor: Divisor = "gfl"
) -> dict[str, Tensor]:
    """The three unweighted supervised losses of a batch.

    Args:
        output: the student's, with box distributions.
        assignment: of the same locations.
        divisor: what "giou" and "dfl" are divided by, both the sum over
            positives of the top class score: at least 1 in the plain GFL head
            ("gfl"); with 2e-4 added to each score and 1e-6 to the sum in the
            head of LD and BCKD ("bckd").

    Returns:
        "qfl": quality focal loss of all counted locations over the number of
        positives; "giou": 1 - GIoU of the positives; "dfl": distribution focal
        loss of the positives, mean of four sides. Without positives the latter
        two are 0, with a gradient of 0.
    """
    positives = Rows.where(assignment.positive)
    target_boxes, boxes = positives.take(assignment.boxes), positives.take(output.boxes)
    quality = positives.put(box_similarity(boxes.detach(), target_boxes))
    per_location = quality_focal_loss(output, assignment.labels, quality)
    qfl = assignment.over_positives(per_location * assignment.counted)

    weight = positives.take(output.scores.detach()).amax(dim=-1)  # (P,)
    weight = positives.only(weight + 2e-4 if divisor == "bckd" else weight)
    limit = {"added": 1e-6} if divisor == "bckd" else {"least": 1.0}
    total = total_of_groups(weight, assignment, **limit)

    giou = ((1 - box_similarity(boxes, target_boxes, "giou")) * weight).sum() / total
    centres = positives.take_each(output.locations.centres)
    strides = positives.take_each(output.locations.strides)
    distances = boxes_to_distances(centres, target_boxes) / strides[:, None]
    assert output.box_logits is not None  # as `reads` asks
    side_losses = distribution_focal_loss(positives.take(output.box_logits), distances)
    dfl = (side_losses.mean(dim=-1) * weight).sum() / total
    return {"qfl": qfl, "giou": giou, "dfl": dfl}

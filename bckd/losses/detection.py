"""The supervised losses of the four detectors, each a dict of unweighted terms.

GFL: Li et al., NeurIPS 2020 (arXiv 2006.04388). RetinaNet: Lin et al., ICCV 2017
(arXiv 1708.02002). FCOS: Tian et al., ICCV 2019 (arXiv 1904.01355). ATSS: Zhang et al.,
CVPR 2020 (arXiv 1912.02424). As in mmdetection 2.28 `models/dense_heads/gfl_head.py`,
`anchor_head.py`, `fcos_head.py` and `atss_head.py`. Every sum is over all levels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from bckd.geometry import EPSILON, box_similarity, boxes_to_deltas, boxes_to_distances
from bckd.groups import group_divisor
from bckd.losses.focal import distribution_focal_loss, quality_focal_loss
from bckd.structures import Assignment, DenseOutput

Divisor = Literal["gfl", "bckd"]


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
    batch, location = assignment.positive.nonzero(as_tuple=True)
    target_boxes = assignment.boxes[batch, location]
    boxes = output.boxes[batch, location]
    quality = torch.zeros_like(assignment.valid, dtype=output.boxes.dtype)
    quality[batch, location] = box_similarity(boxes.detach(), target_boxes)
    per_location = quality_focal_loss(output.cls_logits, assignment.labels, quality)
    qfl = assignment.over_positives(per_location * assignment.counted)

    weight = output.cls_logits.detach().sigmoid().amax(dim=-1)[batch, location]  # (P,)
    if divisor == "bckd":
        weight = weight + 2e-4
    limit = {"added": 1e-6} if divisor == "bckd" else {"least": 1.0}
    total = _group_total(weight, assignment, **limit)

    giou = ((1 - box_similarity(boxes, target_boxes, "giou")) * weight).sum() / total
    strides = output.locations.strides[location, None]
    distances = boxes_to_distances(output.locations.centres[location], target_boxes) / strides
    side_losses = distribution_focal_loss(output.box_logits[batch, location], distances)
    dfl = (side_losses.mean(dim=-1) * weight).sum() / total
    return {"qfl": qfl, "giou": giou, "dfl": dfl}


def retinanet_losses(output: DenseOutput, assignment: Assignment) -> dict[str, Tensor]:
    """The two unweighted supervised losses of a batch.

    Args:
        output: the student's, with deltas from its anchors.
        assignment: of the same locations.

    Returns:
        "focal": focal loss of all counted locations; "l1": distance of the positives' deltas
        to their targets'. Both are sums over the number of positives.
    """
    batch, location = assignment.positive.nonzero(as_tuple=True)
    anchors = output.locations.anchors[location]
    targets = boxes_to_deltas(anchors, assignment.boxes[batch, location])
    l1 = torch.zeros_like(assignment.valid, dtype=output.deltas.dtype)
    l1[batch, location] = (output.deltas[batch, location] - targets).abs().sum(dim=-1)
    return {"focal": _focal(output, assignment), "l1": assignment.over_positives(l1)}


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
    batch, location = assignment.positive.nonzero(as_tuple=True)
    targets = assignment.boxes[batch, location]
    centerness = centerness_of(output.locations.centres[location], targets)
    total = _group_total(centerness, assignment, least=EPSILON)
    iou = box_similarity(output.boxes[batch, location], targets).clamp(min=EPSILON)
    return {
        "focal": _focal(output, assignment),
        "log_iou": (-iou.log() * centerness).sum() / total,
        "centerness": _centerness(output.quality[batch, location], centerness, assignment),
    }


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
    batch, location = assignment.positive.nonzero(as_tuple=True)
    targets = assignment.boxes[batch, location]
    centerness = centerness_of(output.locations.centres[location], targets)
    total = _group_total(centerness, assignment, least=1.0)
    giou = box_similarity(output.boxes[batch, location], targets, "giou")
    return {
        "focal": _focal(output, assignment),
        "giou": ((1 - giou) * centerness).sum() / total,
        "centerness": _centerness(output.quality[batch, location], centerness, assignment),
    }


def centerness_of(centres: Tensor, boxes: Tensor) -> Tensor:
    """Centerness (P,) of points (P, 2) in boxes (P, 4): 1 in the middle, 0 at the border.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (FCOS paper, equation 3).
    """
    left_top, right_bottom = boxes_to_distances(centres, boxes).split(2, dim=-1)
    near, far = torch.minimum(left_top, right_bottom), torch.maximum(left_top, right_bottom)
    return (near / far).prod(dim=-1).sqrt()


def _focal(output: DenseOutput, assignment: Assignment) -> Tensor:
    """Focal loss (alpha .25, gamma 2) of all counted locations over the number of positives."""
    logits = output.cls_logits
    targets = F.one_hot(assignment.labels, logits.shape[-1] + 1)[..., :-1].to(logits)
    per_location = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0).sum(dim=-1)
    return assignment.over_positives(per_location * assignment.counted)


def _group_total(values: Tensor, assignment: Assignment, **limit: float) -> Tensor:
    """What this process divides by: the sum over positives' values (P,), mean over groups."""
    images = len(assignment.valid)
    return group_divisor(values.sum(), images, assignment.images_per_group, **limit)


def _centerness(logits: Tensor, targets: Tensor, assignment: Assignment) -> Tensor:
    """Cross-entropy of the positives' centerness (P,) over their number."""
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return bce / assignment.num_positives

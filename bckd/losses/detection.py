"""The supervised losses of GFL: quality focal, distribution focal and GIoU.

Li et al., NeurIPS 2020 (arXiv 2006.04388); mmdetection 2.28
`models/losses/gfocal_loss.py` and `models/dense_heads/gfl_head.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.distributed import mean_over_processes
from bckd.geometry import box_similarity, boxes_to_distances
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
    qfl = (per_location * assignment.counted).sum() / assignment.num_positives

    weight = output.cls_logits.detach().sigmoid().amax(dim=-1)[batch, location]  # (P,)
    if divisor == "bckd":
        weight = weight + 2e-4
    total = mean_over_processes(weight.sum())
    total = total + 1e-6 if divisor == "bckd" else total.clamp(min=1)

    giou = ((1 - box_similarity(boxes, target_boxes, "giou")) * weight).sum() / total
    strides = output.locations.strides[location, None]
    distances = boxes_to_distances(output.locations.centres[location], target_boxes) / strides
    side_losses = distribution_focal_loss(output.box_logits[batch, location], distances)
    dfl = (side_losses.mean(dim=-1) * weight).sum() / total
    return {"qfl": qfl, "giou": giou, "dfl": dfl}


def quality_focal_loss(
    logits: Tensor, labels: Tensor, quality: Tensor, beta: float = 2.0
) -> Tensor:
    """Quality focal loss (GFL paper), summed over classes.

        sum_j |y_j - sigmoid(l_j)|^beta BCE(sigmoid(l_j), y_j)

    with y_j the quality for j the label, and 0 for all other classes.

    Args:
        logits: (..., K).
        labels: (...) class index; K is background.
        quality: (...) IoU of the predicted with the target box, in [0, 1].

    Returns:
        (...).
    """
    target = F.one_hot(labels, logits.shape[-1] + 1)[..., :-1] * quality[..., None]
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()).abs() ** beta * bce).sum(dim=-1)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (GFL paper): cross-entropy with the two nearest bins.

    Args:
        logits: (..., bins).
        distances: (...) target in bins; clamped to [0, bins - 1 - 0.1].

    Returns:
        (...): the two cross-entropies, weighted by closeness.
    """
    distances = distances.clamp(0, logits.shape[-1] - 1 - 0.1)
    lower = distances.floor().long()
    upper_share = distances - lower
    log_probabilities = logits.log_softmax(dim=-1)
    at_lower = log_probabilities.gather(-1, lower[..., None]).squeeze(-1)
    at_upper = log_probabilities.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -(at_lower * (1 - upper_share) + at_upper * upper_share)

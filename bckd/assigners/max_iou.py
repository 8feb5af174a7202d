"""Max-IoU: an anchor is positive where it overlaps a box by half.

Ren et al., NeurIPS 2015 (arXiv 1506.01497), with RetinaNet's thresholds; mmdetection 2.28
`core/bbox/assigners/max_iou_assigner.py`. The whole batch is assigned at once.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bckd.assigners.shared import (
    Crowd,
    anchors_of,
    by_images,
    ignored_places,
    mean_positives,
    one_an_image,
    targets_of,
)
from bckd.geometry import box_similarity
from bckd.groups import group_count, sum_in_group
from bckd.structures import Assignment, GroundTruth, Locations

POSITIVE_IOU = 0.5
NEGATIVE_IOU = 0.4  # between the two an anchor is ignored


def assign_max_iou(
    locations: Locations,
    ground_truth: GroundTruth,
    padded_sizes: Tensor,
    num_classes: int,
    crowd: Crowd = "ignored",
    images_per_group: int | None = None,
) -> Assignment:
    """Assign every anchor of the batch to a box, to background, or to nothing.

    An anchor belongs to the box that it overlaps most, if by at least `POSITIVE_IOU`. The
    anchors that overlap a box most of all belong to that box however little that is (to the
    last such box of the file). Anchors between the thresholds are ignored unless positive.

    RetinaNet's official code (mmdetection 2.28 `models/dense_heads/anchor_head.py`) takes no
    mean of the positives over GPUs, as those of the other families do: each group divides by
    its own.

    Args:
        locations: the A locations of the detector's output, with anchors.
        ground_truth: boxes (N, G, 4) and labels; images without boxes are fine.
        padded_sizes: (N, 2) height and width beyond which nothing is valid.
        num_classes: K, the label of background.
        crowd: "ignored": anchors that lie mostly in a crowd region are, unless positive.
            "background": they are background, as in the official code.
        images_per_group: see `bckd.groups`.
    """
    valid = locations.inside(padded_sizes)
    of_images = partial(_owners, locations)
    owner, positive, best = by_images(of_images, ground_truth, valid)
    labels, boxes = targets_of(ground_truth, owner, positive, num_classes)
    count = one_an_image(positive, ground_truth.labelled)
    ignored = (best >= NEGATIVE_IOU) & ~positive
    ignored |= ignored_places(locations, ground_truth, positive, crowd)
    return Assignment(
        labels=labels,
        boxes=boxes,
        valid=valid,
        counted=valid & ~ignored,
        positive=positive,
        num_positives=_divisor(count, images_per_group),
        images_per_group=images_per_group,
    )


def _owners(
    locations: Locations, ground_truth: GroundTruth, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Owner box (N, A) of every anchor, whether it is positive, and its largest IoU."""
    overlaps = _overlaps(locations, ground_truth, valid)  # (N, G + 1, A)
    best, owner = overlaps.max(dim=1)
    closest = (overlaps == overlaps.amax(dim=2, keepdim=True)) & (overlaps > 0)
    rows = torch.arange(1, overlaps.shape[1] + 1, device=owner.device, dtype=torch.int32)
    last = (closest * rows[:, None]).amax(dim=1).long() - 1  # -1: closest to no box
    positive = (best >= POSITIVE_IOU) | (last >= 0)
    return last.where(last >= 0, owner), positive, best


def _divisor(positives: Tensor, images_per_group: int | None) -> Tensor:
    """Scalar of the whole batch, or (N,) of each image's group, from positives (N,) of images."""
    if images_per_group is None:
        return mean_positives(positives)
    sums = sum_in_group(positives, images_per_group).clamp(min=1)
    return group_count(len(positives), images_per_group) * sums


def _overlaps(locations: Locations, ground_truth: GroundTruth, valid: Tensor) -> Tensor:
    """(N, G + 1, A) IoU, 0 where it can't be claimed; the last row is no box."""
    overlaps = box_similarity(anchors_of(locations), ground_truth.boxes[:, :, None])
    overlaps = overlaps * (ground_truth.objects[..., None] & valid[:, None])
    nothing = overlaps.new_zeros(len(overlaps), 1, overlaps.shape[2])
    return torch.cat([overlaps, nothing], dim=1)

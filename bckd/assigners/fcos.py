"""FCOS: a point is positive where it lies in a box whose size belongs to its level.

Tian et al., ICCV 2019 (arXiv 1904.01355); mmdetection 2.28
`models/dense_heads/fcos_head.py` (`get_targets`), without centre sampling. The whole
batch is assigned at once.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bckd.assigners.shared import Crowd, by_images, ignored_places, padded, targets_of
from bckd.geometry import box_area, boxes_to_distances
from bckd.groups import group_divisor
from bckd.structures import Assignment, GroundTruth, Locations

REACH = 8.0  # a level's largest side distance, in strides: 64 pixels at stride 8


def assign_fcos(
    locations: Locations,
    ground_truth: GroundTruth,
    num_classes: int,
    crowd: Crowd = "ignored",
    images_per_group: int | None = None,
) -> Assignment:
    """Assign every point of the batch to a box, to background, or to nothing.

    A point can learn the boxes that it lies in and whose farthest side is within its
    level's range (of `REACH` strides of the level below to those of its own; the first
    level has no least, the last no largest distance), and takes the smallest of them.
    Every point is valid, padding included, as in the official code. (Beyond an image's canvas
    all scores are 0, student's and teacher's; nothing is learnt there.)

    Args:
        locations: the A points of the detector's output.
        ground_truth: boxes (N, G, 4) and labels; images without boxes are fine.
        num_classes: K, the label of background.
        crowd: "ignored": points in a crowd region are, unless positive. "background": they
            are background, as in the official code.
        images_per_group: see `bckd.groups`.
    """
    images, places = len(ground_truth.labels), len(locations.centres)
    everywhere = ground_truth.crowd.new_ones(images, places)
    owner, positive = by_images(partial(_owners, locations), ground_truth, everywhere)
    labels, boxes = targets_of(ground_truth, owner, positive, num_classes)
    count = positive.sum().float()
    return Assignment(
        labels=labels,
        boxes=boxes,
        valid=everywhere,
        counted=everywhere & ~ignored_places(locations, ground_truth, positive, crowd),
        positive=positive,
        num_positives=group_divisor(count, len(positive), images_per_group, least=1.0),
        images_per_group=images_per_group,
    )


def _owners(
    locations: Locations, ground_truth: GroundTruth, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Owner box (N, A) of every point, and whether it is positive."""
    distances = boxes_to_distances(locations.centres, ground_truth.boxes[:, :, None])
    farthest, lowest, highest = distances.amax(dim=-1), *_ranges(locations)  # (N, G, A)
    fits = (distances.amin(dim=-1) > 0) & (farthest >= lowest) & (farthest <= highest)
    fits &= ground_truth.objects[..., None] & valid[:, None]
    areas = box_area(ground_truth.boxes)[..., None].where(fits, torch.inf)
    smallest, owner = padded(areas, torch.inf).min(dim=1)
    return owner, smallest.isfinite()


def _ranges(locations: Locations) -> tuple[Tensor, Tensor]:
    """(A,) least and largest distance to a box's farthest side, in pixels."""
    highest = [REACH * level.stride for level in locations.levels[:-1]] + [torch.inf]
    lowest = [-1.0, *highest[:-1]]

    def spread(values: list[float]) -> Tensor:
        pairs = zip(values, locations.counts, strict=True)
        return torch.cat([locations.centres.new_full((count,), x) for x, count in pairs])

    return spread(lowest), spread(highest)

"""What the assigners share: targets of the owner, crowd regions, positives of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import torch
from torch import Tensor

from bckd.geometry import box_area, box_intersection, boxes_to_distances
from bckd.structures import GroundTruth, Locations
from bckd.system.distributed import mean_over_processes, process_count
from bckd.system.errors import InputError

# What a crowd region (iscrowd 1) is to a detector that learns: the official code leaves these
# regions out of its ground truth, so that they are background.
Crowd = Literal["background", "ignored"]

# The valuable localisation region of the official code, or of LD's paper (see `atss`).
RegionKind = Literal["official", "paper"]

# Pairs of a box and a location that are looked at together. Each takes some 40 bytes on the way.
PAIRS_AT_ONCE = 2**22
CROWD_SHARE = 0.5  # an anchor with more than this share inside a crowd region is ignored


@dataclass(frozen=True)
class AssignmentRules:
    """How a batch is assigned, whatever the family.

    Attributes:
        region: also compute the valuable localisation region, where the family has one.
        crowd: what crowd regions are: "ignored", or "background" (official code).
        images_per_group: see `bckd.groups`.
    """

    region: RegionKind | None = None
    crowd: Crowd = "ignored"
    images_per_group: int | None = None


def anchors_of(locations: Locations) -> Tensor:
    """The anchors (A, 4) of the locations.

    Raises:
        InputError: there are none.
    """
    if locations.anchors is None:
        raise InputError(
            "the locations have no anchors, by which this assigner goes; give them some "
            "(bckd.geometry.with_anchors), or assign points by assign_fcos"
        )
    return locations.anchors


def by_images(
    assign: Callable[[GroundTruth, Tensor], tuple[Tensor, ...]],
    ground_truth: GroundTruth,
    valid: Tensor,
) -> tuple[Tensor, ...]:
    """What `assign` says of each image, asked of as many images at once as memory allows.

    Crowded images need much: 93 boxes on RetinaNet's 200,000 anchors are 19 million pairs.
    Compiled, all are asked at once, since a loop would be compiled anew for each number of boxes;
    fused code keeps fewer of the pairs at a time.

    Args:
        assign: takes the ground truth of some images, and `valid` of these; gives (N, ...) each.
        valid: (N, A) bool.
    """
    images, boxes = ground_truth.labels.shape
    at_once = max(1, PAIRS_AT_ONCE // ((boxes + 1) * valid.shape[1]))
    if torch.compiler.is_compiling() or at_once >= images:
        return assign(ground_truth, valid)
    runs = [slice(start, start + at_once) for start in range(0, images, at_once)]
    parts = [assign(ground_truth.with_each(itemgetter(run)), valid[run]) for run in runs]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def padded(values: Tensor, fill: float) -> Tensor:
    """Append the row that owns nothing: (N, G, ...) to (N, G + 1, ...)."""
    return torch.cat([values, values.new_full((len(values), 1, *values.shape[2:]), fill)], dim=1)


def targets_of(
    ground_truth: GroundTruth, owner: Tensor, positive: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Labels (N, A), background where not positive, and boxes (N, A, 4), zeros there.

    Args:
        owner: (N, A) row of the ground truth, or G where no box is meant.
        positive: (N, A) bool.
        num_classes: K, the label of background.
    """
    labels = torch.gather(padded(ground_truth.labels, num_classes), 1, owner)
    boxes = torch.gather(padded(ground_truth.boxes, 0), 1, owner[..., None].expand(-1, -1, 4))
    return labels.where(positive, num_classes), boxes * positive[..., None]


def ignored_places(
    locations: Locations, ground_truth: GroundTruth, positive: Tensor, crowd: Crowd
) -> Tensor:
    """(N, A) bool: locations that count neither as object nor as background.

    They lie in crowd regions, or in images that are not labelled.

    Args:
        positive: (N, A) bool; these are never ignored.
        crowd: "background" ignores no crowd region.
    """
    if crowd == "background" or not ground_truth.has_crowd:
        ignored = torch.zeros_like(positive)
    else:
        ignored = in_crowd(locations, ground_truth) & ~positive
    if ground_truth.labelled is None:
        return ignored
    return ignored | ~(ground_truth.labelled[:, None] | positive)


def in_crowd(locations: Locations, ground_truth: GroundTruth) -> Tensor:
    """(N, A) bool: most of the anchor, or the point, lies in one crowd region."""
    boxes = ground_truth.boxes[:, :, None]
    if locations.anchors is None:
        inside = boxes_to_distances(locations.centres, boxes).amin(-1) > 0  # (N, G, A)
    else:
        shared = box_intersection(locations.anchors, boxes)
        inside = shared > CROWD_SHARE * box_area(locations.anchors)
    return (inside & ground_truth.crowd[..., None]).any(dim=1)


def one_an_image(positive: Tensor, labelled: Tensor | None = None) -> Tensor:
    """(N,) positives of each image; an image without any counts as one.

    Args:
        labelled: see `GroundTruth`; an image that is not counts for nothing.
    """
    found = positive.sum(1).clamp(min=1).float()
    return found if labelled is None else found * labelled


def mean_positives(counts: Tensor) -> Tensor:
    """Scalar: positives of a process, from those of its images (N,); of all together at least one.

    There are none where no image of a batch is labelled.
    """
    return mean_over_processes(counts.sum()).clamp(min=1 / process_count())

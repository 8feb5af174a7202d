"""ATSS: which locations are positive, and the valuable localisation region of LD.

Sources: Zhang et al., CVPR 2020 (arXiv 1912.02424), algorithm 1, and
mmdetection 2.28 `core/bbox/assigners/atss_assigner.py`; Zheng et al., CVPR 2022
(LD, arXiv 2102.12252), for the region. The whole batch is assigned
at once: no loop over images, boxes or locations.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bckd.assigners.shared import (
    Crowd,
    RegionKind,
    anchors_of,
    by_images,
    ignored_places,
    mean_positives,
    one_an_image,
    padded,
    targets_of,
)
from bckd.geometry import box_area, box_intersection, box_similarity
from bckd.structures import Assignment, GroundTruth, Locations

CANDIDATES_PER_LEVEL = 9
VLR_LOWER = 0.25  # the region starts at this fraction of a box's threshold


def assign_atss(
    locations: Locations,
    ground_truth: GroundTruth,
    padded_sizes: Tensor,
    num_classes: int,
    region: RegionKind | None = None,
    crowd: Crowd = "ignored",
    images_per_group: int | None = None,
) -> Assignment:
    """Assign every location of the batch to a box, to background, or to nothing.

    A box's candidates are, per level, the nine locations nearest to its centre.
    Those are positive whose anchor overlaps the box by at least mean + standard
    deviation of the candidates' IoU and whose centre lies in the box; a location
    claimed twice goes to the box of larger IoU.

    Args:
        locations: the A locations of the detector's output, with anchors, one a cell.
        ground_truth: boxes (N, G, 4) and labels; images without boxes are fine.
        padded_sizes: (N, 2) height and width beyond which nothing is valid.
        num_classes: K, the label of background.
        region: also compute `localisation_region`, which LD on the VLR needs:
            "paper" or "official" (see `_valuable_region`).
        crowd: "ignored": locations whose anchor lies mostly in a crowd region are, unless
            positive. "background": they are background, as in the official code.
        images_per_group: see `bckd.groups`.
    """
    valid = locations.inside(padded_sizes)
    of_images = partial(_owners, locations, region)
    owner, positive, *weights = by_images(of_images, ground_truth, valid)
    ignored = ignored_places(locations, ground_truth, positive, crowd)
    labels, boxes = targets_of(ground_truth, owner, positive, num_classes)
    count = one_an_image(positive, ground_truth.labelled)
    return Assignment(
        labels=labels,
        boxes=boxes,
        valid=valid,
        counted=valid & ~ignored,
        positive=positive,
        num_positives=mean_positives(count),
        images_per_group=images_per_group,
        localisation_region=weights[0] if weights else None,
    )


def _owners(
    locations: Locations, region: RegionKind | None, ground_truth: GroundTruth, valid: Tensor
) -> tuple[Tensor, ...]:
    """Owner box (N, A) of every location, whether it is positive, and the region if asked for."""
    anchors = anchors_of(locations)
    candidates = _candidates(locations, ground_truth, valid)
    overlaps = box_similarity(anchors[candidates.clamp(min=0)], ground_truth.boxes[:, :, None])
    thresholds = _thresholds(overlaps, candidates >= 0)
    owner, positive = _resolve(locations, ground_truth, candidates, overlaps, thresholds)
    if region is None:
        return owner, positive
    return owner, positive, _valuable_region(anchors, ground_truth, thresholds, valid, region)


def _candidates(locations: Locations, ground_truth: GroundTruth, valid: Tensor) -> Tensor:
    """(N, G, C) indices of the nearest locations of each level; -1 where there is none."""
    boxes = ground_truth.boxes
    box_centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    gap = locations.centres - box_centres[:, :, None]  # (N, G, A, 2)
    distances = gap.square().sum(-1).sqrt()
    usable = valid[:, None] & ground_truth.objects[..., None]
    distances = distances.masked_fill(~usable, torch.inf)
    found, start = [], 0
    for level_distances in distances.split(locations.counts, dim=-1):
        count = level_distances.shape[-1]
        nearest = level_distances.topk(min(CANDIDATES_PER_LEVEL, count), dim=-1, largest=False)
        found.append((nearest.indices + start).where(nearest.values.isfinite(), -1))
        start += count
    return torch.cat(found, dim=-1)


def _thresholds(overlaps: Tensor, exists: Tensor) -> Tensor:
    """(N, G) mean + standard deviation of the candidates' IoU (N, G, C)."""
    count = exists.sum(-1)
    mean = (overlaps * exists).sum(-1) / count.clamp(min=1)
    squares = ((overlaps - mean[..., None]).square() * exists).sum(-1)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()


def _resolve(
    locations: Locations,
    ground_truth: GroundTruth,
    candidates: Tensor,
    overlaps: Tensor,
    thresholds: Tensor,
) -> tuple[Tensor, Tensor]:
    """Owner box (N, A) of every location, and whether it is positive (N, A)."""
    centres = locations.centres[candidates.clamp(min=0)]
    boxes = ground_truth.boxes[:, :, None]
    margin = torch.cat([centres - boxes[..., :2], boxes[..., 2:] - centres], dim=-1).amin(-1)
    claimed = (candidates >= 0) & (overlaps >= thresholds[..., None]) & (margin > 0.01)
    count, size, spare = len(candidates), candidates.shape[1], len(locations.centres)
    # One row more than boxes, so that a batch without boxes has a maximum, and one
    # column more than locations, which takes the candidates that claim nothing.
    claims = overlaps.new_full((count, size + 1, spare + 1), -1.0)
    claims[:, :size].scatter_(2, candidates.where(claimed, spare), overlaps)
    best, owner = claims[..., :-1].max(dim=1)
    return owner, best >= 0


def _valuable_region(
    anchors: Tensor, ground_truth: GroundTruth, thresholds: Tensor, valid: Tensor, kind: RegionKind
) -> Tensor:
    """(N, A) weights of the VLR: IoU with the best box whose DIoU is in [t / 4, t).

    t is the box's ATSS threshold. The official code's DIoU divides the
    intersection by the anchor's area, not by the union (its `bbox_overlaps`
    forms a union for "iou" and "giou" only); "paper" is DIoU as published.
    The two agree where anchors contain the boxes.
    """
    boxes = ground_truth.boxes[:, :, None]
    overlaps = box_similarity(anchors, boxes)  # (N, G, A)
    closeness = box_similarity(anchors, boxes, "diou")
    if kind == "official":
        share_of_anchor = box_intersection(anchors, boxes) / box_area(anchors)
        closeness = share_of_anchor + (closeness - overlaps)
    upper = thresholds[..., None]
    inside = (closeness < upper) & (closeness >= VLR_LOWER * upper)
    inside &= ground_truth.objects[..., None] & valid[:, None]
    return padded(overlaps * inside, 0).amax(dim=1)

"""What each of the four families learns from labels: its assigner and its losses."""

from __future__ import annotations

from torch import Tensor

from bckd.assigners import Crowd, RegionKind, assign_atss, assign_fcos, assign_max_iou
from bckd.losses.detection import (
    Divisor,
    atss_losses,
    fcos_losses,
    gfl_losses,
    retinanet_losses,
)
from bckd.models.detector import HeadName
from bckd.structures import Assignment, DenseOutput, GroundTruth


def assign(
    head: HeadName,
    output: DenseOutput,
    ground_truth: GroundTruth,
    padded_sizes: Tensor,
    region: RegionKind | None = None,
    crowd: Crowd = "ignored",
    images_per_group: int | None = None,
) -> Assignment:
    """What each location of a batch shall learn, in the head's own way.

    Args:
        head: the detector's family.
        output: the student's.
        ground_truth: boxes (N, G, 4) and labels; images without boxes are fine.
        padded_sizes: (N, 2) height and width beyond which nothing is valid.
        region: also compute `localisation_region` (GFL and ATSS).
        crowd: what crowd regions are: "ignored", or "background" (official code).
        images_per_group: see `bckd.groups`.
    """
    known = {
        "locations": output.locations,
        "ground_truth": ground_truth,
        "num_classes": output.cls_logits.shape[-1],
        "crowd": crowd,
        "images_per_group": images_per_group,
    }
    match head:
        case "gfl" | "atss":
            return assign_atss(padded_sizes=padded_sizes, region=region, **known)
        case "retinanet":
            return assign_max_iou(padded_sizes=padded_sizes, **known)
        case "fcos":
            return assign_fcos(**known)


def supervised_losses(
    head: HeadName, output: DenseOutput, assignment: Assignment, divisor: Divisor = "gfl"
) -> dict[str, Tensor]:
    """The head's unweighted supervised losses, by their name in `LossWeights`.

    Args:
        divisor: of GFL's box losses (see `gfl_losses`).
    """
    match head:
        case "gfl":
            return gfl_losses(output, assignment, divisor)
        case "retinanet":
            return retinanet_losses(output, assignment)
        case "fcos":
            return fcos_losses(output, assignment)
        case "atss":
            return atss_losses(output, assignment)

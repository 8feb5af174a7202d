"""What a family learns from labels, by its name: its assigner and its losses."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from bckd.assigners import AssignmentRules, Crowd, RegionKind
from bckd.losses.options import Divisor, LossOptions
from bckd.models.heads import HEADS, HeadName
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
    rules = AssignmentRules(region, crowd, images_per_group)
    return HEADS[head].assign(output, ground_truth, padded_sizes, rules)


def supervised_losses(
    head: HeadName, output: DenseOutput, assignment: Assignment, divisor: Divisor = "gfl"
) -> dict[str, Tensor]:
    """The head's unweighted supervised losses, by their name in `LossWeights`.

    Args:
        divisor: of GFL's box losses (see `gfl_losses`).
    """
    return HEADS[head].losses(output, assignment, replace(LossOptions(), divisor=divisor))

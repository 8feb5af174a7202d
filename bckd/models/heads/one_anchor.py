"""What GFL and ATSS share: one square anchor a cell, assigned by ATSS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bckd.assigners import AssignmentRules, assign_atss
from bckd.geometry import grid, with_anchors
from bckd.models.heads.towers import TowerHead
from bckd.structures import Assignment, DenseOutput, GroundTruth, Locations


class OneAnchorHead(TowerHead):
    """A head that predicts from one square anchor a cell, at its corner."""

    @staticmethod
    def locations(
        shapes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        anchor_scale: float = 8.0,
        device: torch.device | str = "cpu",
    ) -> Locations:
        """One square anchor a cell."""
        places = grid(shapes, strides, device=device)
        return with_anchors(places, [(anchor_scale, anchor_scale)])

    @staticmethod
    def assign(
        output: DenseOutput,
        ground_truth: GroundTruth,
        padded_sizes: Tensor,
        rules: AssignmentRules,
    ) -> Assignment:
        """By ATSS."""
        return assign_atss(
            output.locations,
            ground_truth,
            padded_sizes,
            output.cls_logits.shape[-1],
            rules.region,
            rules.crowd,
            rules.images_per_group,
        )

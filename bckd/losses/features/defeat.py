"""DeFeat: maps at objects and at background, each divided by its own number of cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.losses.features.objects import object_cells
from bckd.losses.features.shared import adapted, adapters_of
from bckd.losses.needs import needs
from bckd.structures import Assignment, Batch, DenseOutput

# Background against objects, as in LutingWang/HEAD, configs/kd/defeat.py (neg_gain); the official
# repository, ggjy/DeFeat.pytorch, has configurations of Faster R-CNN on VOC alone.
BACKGROUND = 4.0


@needs("features")
class Decoupled(nn.Module):
    """The squared gap at objects, and four times that at background, each a mean over its cells.

        sum_l sum M g / (2 N_objects) + 4 sum (1 - M) g / (2 N_background),   g = (f(x_s) - x_t)^2

    M is 1 in the cells of a ground-truth box; sums over channels, N counts the cells of the batch
    (at least 1). Guo et al., CVPR 2021 (arXiv 2103.14475, equation 5): its part on the maps of the
    neck. That on proposals is of two-stage detectors; on a dense head BCKD's own terms are nearest.
    No official weight for dense detectors was found.
    """

    def __init__(self, student: DenseOutput, teacher: DenseOutput) -> None:
        super().__init__()
        self.adapters = adapters_of(student, teacher)

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None,
    ) -> Tensor:
        """Scalar, of the pyramids' maps and the batch's boxes."""
        assert batch is not None  # the boxes are the ground truth's
        parts = []
        levels = student.locations.levels
        for level, (ours, theirs) in zip(
            levels, adapted(self.adapters, student, teacher), strict=True
        ):
            gaps = (ours - theirs).square().sum(dim=1)  # (N, H, W)
            inside = object_cells(batch.ground_truth, level).any
            parts += [_mean_at(gaps, inside), BACKGROUND * _mean_at(gaps, ~inside)]
        return torch.stack(parts).sum()


def _mean_at(gaps: Tensor, mask: Tensor) -> Tensor:
    return (gaps * mask).sum() / (2 * mask.sum().clamp(min=1))

"""PKD: maps compared by correlation, whatever their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.losses.features.shared import adapted, adapters_of
from bckd.losses.needs import needs
from bckd.structures import Assignment, Batch, DenseOutput

EPSILON = 1e-6  # mmrazor, losses/pkd_loss.py


@needs("features")
class Pearson(nn.Module):
    """Half the mean squared gap of maps whose channels have mean 0 and deviation 1.

        sum_l mean (norm(f(x_s)) - norm(x_t))^2 / 2

    That is 1 minus Pearson's correlation, the mean over channels. Cao et al., NeurIPS 2022
    (arXiv 2207.02039, equation 3). Mean and deviation of a channel are over the cells of all
    images of the batch, as in mmrazor's `losses/pkd_loss.py`, where the official weight is 6; its
    deviation is a sample's, which makes a difference of one part in the number of cells.
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
        """Scalar, of the pyramids' maps alone."""
        pairs = adapted(self.adapters, student, teacher)
        gaps = [(_standardised(ours) - _standardised(theirs)) for ours, theirs in pairs]
        return torch.stack([gap.square().mean() / 2 for gap in gaps]).sum()


def _standardised(x: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (deviation + EPSILON)

"""FitNets' hints: the student's maps shall be the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.losses.features.shared import adapted, adapters_of
from bckd.losses.needs import needs
from bckd.structures import Assignment, Batch, DenseOutput


@needs("features")
class FitNet(nn.Module):
    """The mean squared gap of all cells and channels, summed over the levels.

        sum_l mean (f(x_s) - x_t)^2

    Romero et al., ICLR 2015 (arXiv 1412.6550, equation 3, which has one layer, a half and a sum);
    over the levels of a pyramid as detection papers take it for a baseline; f is an adapter a
    level. There is no official code for detectors: LutingWang/HEAD (configs/kd/fitnet.py,
    RetinaNet) has the same mean at five levels, with the weight 1 and a 1x1 convolution also
    between equal channels. The mean makes the value independent of batch, image and channels.
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
        return torch.stack([(ours - theirs).square().mean() for ours, theirs in pairs]).sum()

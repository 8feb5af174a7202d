"""FitNets' hints: the student's maps shall be the teacher's."""

from __future__ import annotations

from torch import Tensor

from bckd.losses.features.shared import FeatureTerm


class FitNet(FeatureTerm):
    """The mean squared gap of all cells and channels, summed over the levels.

        sum_l mean (f(x_s) - x_t)^2

    Romero et al., ICLR 2015 (arXiv 1412.6550, equation 3, which has one layer, a half and a sum);
    over the levels of a pyramid as detection papers take it for a baseline; f is an adapter a
    level. There is no official code for detectors: LutingWang/HEAD (configs/kd/fitnet.py,
    RetinaNet) has the same mean at five levels, with the weight 1 and a 1x1 convolution also
    between equal channels. The mean makes the value independent of batch, image and channels.
    """

    def level(self, number: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """The mean squared gap of (N, C, H, W)."""
        return (ours - theirs).square().mean()

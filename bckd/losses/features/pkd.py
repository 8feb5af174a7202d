"""PKD: maps compared by correlation, whatever their size."""

from __future__ import annotations

import torch
from torch import Tensor

from bckd.losses.features.shared import FeatureTerm

EPSILON = 1e-6  # beside a channel's deviation; mmrazor, mmrazor/models/losses/pkd_loss.py


class Pearson(FeatureTerm):
    """Half the mean squared gap of maps whose channels have mean 0 and deviation 1.

        sum_l mean_{n, c, i} (norm(f(x_s)) - norm(x_t))^2 / 2  =  sum_l mean_c (1 - r_c)

    over the levels l of the pyramid, images n, the teacher's channels c and cells i; f is an
    adapter a level, r_c Pearson's correlation of a channel's two maps (Cao et al., NeurIPS 2022,
    arXiv 2207.02039). What a channel's size and level are does not matter. A channel that is the
    same everywhere is 0 there once it is normalised: one half beside a channel that is not.

    Mean and deviation are over the cells of all images of the batch, as in the official code
    (mmrazor, losses/pkd_loss.py), which has two images there; cells beyond an image are cells as
    others are. Its deviation is that of a sample, by which the value is smaller by one part in the
    number of cells; with ours a batch twice over has the same value. The official weight, the
    same with us, is 10 where a one-stage detector teaches and 6 where a two-stage one does, at the
    finest four levels of the neck (mmrazor, configs/distill/mmdet/pkd); beside CrossKD it is 6, at
    all five (jbwang1997/CrossKD, configs/crosskd+pkd).
    """

    def level(self, number: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """Half the mean squared gap; 0 where a channel's maps (N, H, W) differ by a line alone."""
        return (_standardised(ours) - _standardised(theirs)).square().mean() / 2


def _standardised(maps: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    return (maps - mean) / (deviation + EPSILON)

"""CWD: each channel's map, read as a distribution over the cells."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bckd.losses.features.shared import FeatureTerm

# pppppM/mmdetection-distiller, configs/distillers/cwd (the authors' code for detectors), and
# mmrazor, configs/distill/mmdet/cwd: tau 1 in all of them. Segmentation has others.
TEMPERATURE = 1.0


class ChannelWise(FeatureTerm):
    """The divergence of the softmax over an image's cells, channel by channel.

        sum_l T^2 mean_{n, c} KL(softmax(x_t / T) || softmax(f(x_s) / T))

    over the levels l of the pyramid, images n and the teacher's channels c; f is an adapter a level
    (Shu et al., ICCV 2021, arXiv 2011.13256). It compares where in the image
    a channel is active: a constant added to a channel changes nothing, and one cell's value
    matters beside those of all others. Cells beyond an image are cells as others are.

    The official codes divide by images and channels as we do, so weights carry over: 5 a level at
    the finest four of a neck (the authors' detectors, RetinaNet 37.4 -> 40.5 AP); 10 at five levels
    (mmrazor's configurations of necks, without a published result); 5 at GFL's class logits, not
    maps (mmrazor's published 40.2 -> 41.9); 1 at three levels, where both maps are brought to mean
    0 and deviation 1 a channel by a batch normalisation without parameters (mmyolo, RTMDet). That
    last step, which makes T count alike for all channels, is left out here. The authors' code has
    only the cross-entropy of the divergence: same gradient, another value. It divides by the
    student's channels before the adapter, mmrazor and we by the teacher's.
    """

    def level(self, number: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """The mean divergence; 0 where (N, C, H, W) are equal but for such constants."""
        maps = ours, theirs
        log_ours, log_theirs = ((x.flatten(2) / TEMPERATURE).log_softmax(dim=-1) for x in maps)
        divergence = F.kl_div(log_ours, log_theirs, reduction="none", log_target=True)
        return divergence.sum(dim=-1).mean() * TEMPERATURE**2

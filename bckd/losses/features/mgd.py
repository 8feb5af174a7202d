"""MGD: from a map with cells masked out, generate the teacher's whole one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.losses.features.shared import FeatureTerm
from bckd.structures import DenseOutput

# Part of the cells; yzd-v/MGD, det/configs/distillers/mgd, of RetinaNet. Two-stage detectors have
# .45 and a weight of 5e-7.
MASKED = 0.65


class MaskedGeneration(FeatureTerm):
    """The squared gap of the teacher's map and one generated of the student's masked one.

        sum_l sum (G(M f(x_s)) - x_t)^2 / N

    G is a 3x3 convolution, a ReLU and a 3x3 convolution a level, f an adapter a level; M is 0 at
    each cell with probability .65, else 1, for all channels alike, drawn anew in every step and for
    each level. Yang et al., ECCV 2022 (arXiv 2205.01529, equations 2 to 4); as in yzd-v/MGD,
    det/mmdet/distillation/losses/mgd.py, where the weight for one-stage detectors is 2e-5. The sum
    is over an image's channels and cells, there 256 and those of images of 800 pixels. As with FGD
    its students start from the teacher's neck and head.

    It has no value of 0 for a student that is its teacher: the generators have to learn. Random
    numbers are those of torch's own generator on the maps' device.
    """

    def __init__(self, student: DenseOutput, teacher: DenseOutput) -> None:
        super().__init__(student, teacher)
        self.generators = nn.ModuleList(_generator(x.shape[1]) for x in teacher.features)

    def level(self, number: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """The squared gap of what is generated, a sum over (C, H, W) and a mean over images."""
        kept = torch.rand_like(ours[:, :1]) >= MASKED  # (N, 1, H, W)
        return (self.generators[number](ours * kept) - theirs).square().sum() / len(ours)


def _generator(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )

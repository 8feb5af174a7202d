"""CWD: each channel's map, read as a distribution over the cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bckd.losses.features.shared import adapted, adapters_of
from bckd.losses.needs import needs
from bckd.structures import Assignment, Batch, DenseOutput

TEMPERATURE = 1.0  # mmrazor, configs/distill/mmdet/cwd (tau 1, loss_weight 10 a level)


@needs("features")
class ChannelWise(nn.Module):
    """The divergence of the softmax over an image's cells, channel by channel.

        sum_l T^2 mean_{n, c} KL(softmax(x_t / T) || softmax(f(x_s) / T))

    Shu et al., ICCV 2021 (arXiv 2011.13256, equations 4 and 5); as in mmrazor,
    `losses/cwd.py`, where the official weight for detectors is 10. It compares where a channel is
    active, not how much: a constant added to a map changes nothing. The mean over images and
    channels makes the value independent of both.
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
        return torch.stack([_divergence(*pair) for pair in pairs]).sum()


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    log_ours, log_theirs = (
        (x.flatten(2) / TEMPERATURE).log_softmax(dim=-1) for x in (ours, theirs)
    )
    each = F.kl_div(log_ours, log_theirs, reduction="none", log_target=True)
    divergence = each.sum(dim=-1)  # (N, C)
    return divergence.mean() * TEMPERATURE**2

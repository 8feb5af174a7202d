"""An average over the student's weights of all steps, which is steadier than those of the last."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe


class AveragedStudent:
    """The exponential moving average of a student's weights, and its buffers as they are.

    It begins at the weights that the student has. (PyTorch's `AveragedModel` counts its updates
    in a tensor, for which the host would wait.)

    Args:
        student: whose weights are averaged; its tensors stay where they are.
        copy: of the student; it becomes the one with averaged weights.
        decay: how much of the average a step leaves.

    Attributes:
        detector: the one with averaged weights, to be evaluated and saved.
    """

    def __init__(self, student: DenseDetector, copy: DenseDetector, decay: float) -> None:
        self.detector = copy.requires_grad_(False).train()
        self._average = get_ema_multi_avg_fn(decay)
        # Listed once: to walk through a detector's modules takes longer than to average.
        both = (self.detector, student)
        self._weights = tuple([*network.parameters()] for network in both)
        self._buffers = tuple([*network.buffers()] for network in both)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._average(*self._weights, 0)
        for own, new in zip(*self._buffers, strict=True):
            own.copy_(new)


def averaged(student: DenseDetector, recipe: Recipe) -> AveragedStudent | None:
    """The average of the student's weights, where the recipe asks for one."""
    decay = recipe.optimisation.ema
    return None if decay is None else AveragedStudent(student, deepcopy(student), decay)

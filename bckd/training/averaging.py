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
        detector: a copy of the student; it becomes the one with averaged weights, which is to be
            evaluated and saved.
        decay: how much of the average a step leaves.
    """

    def __init__(self, detector: DenseDetector, decay: float) -> None:
        self.detector = detector.requires_grad_(False).train()
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, student: DenseDetector) -> None:
        """Take in the weights after a step."""
        self._average([*self.detector.parameters()], [*student.parameters()], 0)
        for own, new in zip(self.detector.buffers(), student.buffers(), strict=True):
            own.copy_(new)


def averaged(student: DenseDetector, recipe: Recipe) -> AveragedStudent | None:
    """The average of the student's weights, where the recipe asks for one."""
    decay = recipe.optimisation.ema
    return None if decay is None else AveragedStudent(deepcopy(student), decay)

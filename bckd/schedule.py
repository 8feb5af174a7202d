"""Optimiser and learning rate; the rate is a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from bckd.recipes import Optimisation


def build_optimizer(module: nn.Module, settings: Optimisation) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that learn."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    # Fused: one kernel for all parameters, several times faster where they are many and small.
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, momentum=settings.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate(settings: Optimisation, step: int, steps: int, batch_size: int) -> float:
    """The learning rate at `step` of `steps`: linear scaling, warm-up, then the schedule.

    Warm-up is linear and multiplies the schedule, as in mmcv's `LrUpdaterHook`.
    """
    rate = settings.learning_rate * batch_size / 16
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    else:
        rate *= 0.1 ** sum(step >= round(drop * steps) for drop in settings.drops)
    if step < settings.warmup_steps:
        share = step / settings.warmup_steps
        rate *= settings.warmup_start + (1 - settings.warmup_start) * share
    return rate

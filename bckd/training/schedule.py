"""Optimiser and learning rate; the rate is a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from bckd.datasets.advice import advice_on_warm_up
from bckd.models.backbones import Backbone
from bckd.recipes import Optimisation, Recipe
from bckd.system.errors import InputError
from bckd.system.telling import tell

_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(module: nn.Module, settings: Optimisation) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that learn.

    Parameters of one learning rate and weight decay are a group; which these are is told as in
    mmcv 1.x `runner/optimizer/default_constructor.py`.

    Raises:
        InputError: the backbone has a rate of its own, and there is none.
    """
    groups = _groups(module, settings)
    # Fused: one kernel for all parameters, several times faster where they are many and small.
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, fused=True
        )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _groups(module: nn.Module, settings: Optimisation) -> list[dict[str, object]]:
    backbones = _backbones(module, settings)
    undecayed = {id(p) for x in backbones if isinstance(x, Backbone) for p in x.undecayed()}
    of_backbone = {id(p) for x in backbones for p in x.parameters()}
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            rate, decay = 1.0, 1.0
            if name == "bias" and not isinstance(part, _NORMS):
                rate, decay = settings.bias_rate, settings.bias_decay
            elif isinstance(part, _NORMS):
                decay = settings.norm_decay
            if id(parameter) in of_backbone:
                rate *= settings.backbone_rate
            if id(parameter) in undecayed:
                decay = 0.0
            members.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": found, "rate_factor": rate, "weight_decay": decay * settings.weight_decay}
        for (rate, decay), found in members.items()
    ]


def _backbones(module: nn.Module, settings: Optimisation) -> list[nn.Module]:
    """Our backbones and torchvision's within a detector.

    Raises:
        InputError: there is none, and it should have a rate of its own.
    """
    parts = [*module.modules()]
    found: list[nn.Module] = [part for part in parts if isinstance(part, Backbone)]
    found += [part.body for part in parts if isinstance(part, BackboneWithFPN)]
    if not found and settings.backbone_rate != 1:
        raise InputError(
            f"optimisation.backbone_rate is {settings.backbone_rate}; expected 1 for a student "
            f"of your own, whose backbone nothing tells"
        )
    return found


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step have this rate, and each group its multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


def tell_warm_up(recipe: Recipe) -> None:
    """Tell where a run will stop before its learning rate is what the recipe says."""
    sentence = advice_on_warm_up(recipe.steps, recipe.optimisation.warmup_steps)
    if sentence is not None:
        tell(sentence)


def scaled_rate(settings: Optimisation, batch_size: int) -> float:
    """The learning rate for so many images a step: linear in them."""
    return settings.learning_rate * batch_size / 16


def learning_rate(settings: Optimisation, step: int, steps: int, batch_size: int) -> float:
    """The learning rate at `step` of `steps`: linear scaling, warm-up, then the schedule.

    Warm-up multiplies the schedule, by a factor that grows linearly to 1 or stays what it was,
    as in mmcv's `LrUpdaterHook`.
    """
    rate = scaled_rate(settings, batch_size)
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    else:
        rate *= 0.1 ** sum(step >= round(drop * steps) for drop in settings.drops)
    if step < settings.warmup_steps:
        share = step / settings.warmup_steps if settings.warmup == "linear" else 0.0
        rate *= settings.warmup_start + (1 - settings.warmup_start) * share
    return rate

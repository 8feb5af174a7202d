"""The file that holds a run which can go on: how it is written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.system.distributed import process_count
from bckd.system.errors import InputError
from bckd.system.files import parse_json
from bckd.system.values import Count, CountOrZero, PositiveOrZero, from_plain, to_plain
from bckd.training.loss_window import HeldWindow
from bckd.weights.tensor_files import read_tensors, save_tensors
from bckd.zoo.unfinished import AVERAGED, MODEL, STATE, Damaged, check_whole, checksum, is_state

PREVIOUS = "resume.previous.safetensors"  # of the state before it


@dataclass(frozen=True)
class _Header:
    """What a state says beside its tensors, each field a JSON text.

    Earlier versions wrote no `scaler`, `contents`, `window`, `class_names`, `processes` and
    `checksum`.
    """

    step: CountOrZero
    seconds: PositiveOrZero
    recipe: dict[str, Any]
    scaler: dict[str, int | float] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    window: HeldWindow = field(default_factory=HeldWindow)
    class_names: tuple[str, ...] | None = None
    processes: Count | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class ResumeState:
    """A run that can go on.

    Attributes:
        path: the file.
        tensors: the student's, as `model/NAME`, those of terms of one's own that learn, as
            `terms/NAME`, the optimiser's, as `optimizer/PARAMETER/NAME`, those of an average over
            the student's, as `averaged/NAME`, and those of steered weights, as `steering/NAME`.
        step, seconds: how many steps it has made, and how long it trained.
        recipe: the run's, as plain JSON values.
        scaler: state of the loss scale of fp16.
        contents: see `contents_of`.
        window: what the next line of the log says of steps before this one.
        processes: how many shared its steps; None where an earlier version wrote it.
    """

    path: Path
    tensors: dict[str, Tensor]
    step: int
    seconds: float
    recipe: dict[str, Any]
    scaler: dict[str, int | float]
    contents: dict[str, str]
    window: HeldWindow
    processes: int | None


def save_state(
    recipe: Recipe,
    contents: dict[str, str],
    detector: DenseDetector,
    terms: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    step: int,
    seconds: float,
    window: HeldWindow,
    averaged: DenseDetector | None = None,
    steering: nn.Module | None = None,
) -> None:
    """Write the resume state of a run into its folder; atomically. The one before it is kept.

    Args:
        terms: of the recipe's own; without parameters where none of them learns.
        averaged: the student with averaged weights, where there is one.
        steering: where weights are steered.
    """
    tensors = {MODEL + name: value for name, value in detector.state_dict().items()}
    if averaged is not None:
        tensors |= {AVERAGED + name: value for name, value in averaged.state_dict().items()}
    if steering is not None:
        tensors |= {f"steering/{name}": value for name, value in steering.state_dict().items()}
    tensors |= {f"terms/{name}": value for name, value in terms.state_dict().items()}
    for name, parameter in learning_parameters(detector, terms).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD without momentum keeps an empty buffer
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = _Header(
        step,
        seconds,
        to_plain(recipe),
        scaler.state_dict(),
        contents,
        window,
        class_names=detector.class_names,
        processes=process_count(),
    )
    texts = {name: json.dumps(to_plain(value)) for name, value in vars(header).items()}
    texts["checksum"] = json.dumps(checksum(tensors, texts))
    save_tensors(recipe.out / STATE, tensors, texts, recipe.out / PREVIOUS)


def learning_parameters(detector: nn.Module, terms: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters that learn, by the name that a state gives them."""
    named = list(detector.named_parameters())
    named += [(f"terms:{name}", parameter) for name, parameter in terms.named_parameters()]
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def read_state(path: Path) -> ResumeState:
    """A state as it was written.

    Raises:
        InputError: it is something else.
        Damaged: it is not as it was written.
    """
    try:
        tensors, texts = read_tensors(path)
    except InputError as error:
        raise Damaged(str(error)) from error
    if not is_state(texts):
        raise InputError(f"{path} is no resume state of bckd")
    plain = {name: parse_json(text, f"{path}: {name}") for name, text in texts.items()}
    header = from_plain(_Header, plain, str(path))
    check_whole(path, tensors, texts)
    own = {entry.name for entry in fields(ResumeState)}
    return ResumeState(path, tensors, **{k: v for k, v in vars(header).items() if k in own})

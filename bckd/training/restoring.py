"""A run goes on: what its state holds goes back to where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.system.distributed import process_count
from bckd.system.errors import InputError
from bckd.system.telling import first_of, tell
from bckd.training.checks import learns_batch_norm
from bckd.training.resume_state import ResumeState, learning_parameters
from bckd.weights.tensor_files import fill
from bckd.zoo.filling import load_strictly


def restore(
    state: ResumeState,
    detector: DenseDetector,
    terms: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    averaged: DenseDetector | None = None,
    steering: nn.Module | None = None,
) -> None:
    """Put what a resume state holds back into the detector, terms, optimiser and loss scale.

    Args:
        averaged: the detector with averaged weights, where the run has one.
        steering: where the run steers weights.

    Raises:
        InputError: a tensor or number is missing, unknown or of another shape.
    """
    kept = _by_owner(state.tensors)
    load_strictly(detector, kept["model"], state.path)
    fill(terms, kept["terms"], str(state.path), "holds other terms")
    if averaged is not None:
        load_strictly(averaged, kept["averaged"], state.path)
    if steering is not None:
        fill(steering, kept["steering"], str(state.path), "steers other terms")
    _restore_scale(state, scaler)
    learning = learning_parameters(detector, terms)
    buffers = _by_parameter(kept["optimizer"], learning)
    # In fp16 every step so far may have been left out.
    if buffers or not (scaler.is_enabled() or state.step == 0):
        _check_buffers(state, buffers, learning, _kinds_of_buffers(optimizer))
    _fill_optimizer(optimizer, buffers, learning)


def _by_owner(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of a state by whose they are, as OWNER/NAME says."""
    kept: dict[str, dict[str, Tensor]] = {
        "model": {},
        "terms": {},
        "optimizer": {},
        "averaged": {},
        "steering": {},
    }
    for name, value in tensors.items():
        owner, _, rest = name.partition("/")
        if owner in kept:
            kept[owner][rest] = value
        else:  # nobody's: the optimiser refuses what it does not know
            kept["optimizer"][name] = value
    return kept


def _by_parameter(
    tensors: dict[str, Tensor], learning: dict[str, nn.Parameter]
) -> dict[str, dict[str, Tensor]]:
    """What the optimiser remembers of each parameter, as PARAMETER/NAME says."""
    buffers: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.partition("/")
        buffers.setdefault(parameter, {})[key] = value
    if buffers and all(name.isdigit() for name in buffers):  # earlier states number them
        numbers = {str(n): name for n, name in enumerate(learning)}
        buffers = {numbers.get(number, number): values for number, values in buffers.items()}
    return buffers


def _restore_scale(state: ResumeState, scaler: torch.amp.GradScaler) -> None:
    if scaler.is_enabled() and state.scaler:
        _check_names(state, "entries of the loss scale", scaler.state_dict(), state.scaler)
        scaler.load_state_dict(state.scaler)


def _fill_optimizer(
    optimizer: torch.optim.Optimizer,
    buffers: dict[str, dict[str, Tensor]],
    learning: dict[str, nn.Parameter],
) -> None:
    """Give an optimiser, which numbers its parameters, what it remembered of each."""
    names = {id(p): name for name, p in learning.items()}
    groups = optimizer.state_dict()["param_groups"]
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    numbered = {n: buffers[name] for n, name in enumerate(order) if name in buffers}
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})
    for learnt, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == learnt.shape:
                # Fused optimisers read buffers in the parameter's memory layout.
                values[name] = torch.empty_like(learnt, dtype=value.dtype).copy_(value)


def _kinds_of_buffers(optimizer: torch.optim.Optimizer) -> list[str]:
    """What the optimiser remembers of a parameter."""
    if isinstance(optimizer, torch.optim.AdamW):
        return ["step", "exp_avg", "exp_avg_sq"]
    return ["momentum_buffer"] if optimizer.defaults["momentum"] else []


def _check_buffers(
    state: ResumeState,
    buffers: dict[str, dict[str, Tensor]],
    learning: dict[str, nn.Parameter],
    kinds: list[str],
) -> None:
    """The optimiser's buffers are those of all that learns, in its shapes (`step` is a number)."""
    wanted = {
        f"{name}/{kind}": (() if kind == "step" else tuple(parameter.shape), parameter.dtype, True)
        for name, parameter in learning.items()
        for kind in kinds
    }
    found = {
        f"{name}/{kind}": (tuple(value.shape), value.dtype, bool(torch.isfinite(value).all()))
        for name, values in buffers.items()
        for kind, value in values.items()
    }
    _check_names(state, "tensors of the optimiser", wanted, found)


def _check_names(
    state: ResumeState, what: str, wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Both have the same entries, and where these are told, shapes, types and finite numbers."""
    wrong = sorted(set(wanted) ^ set(found))
    told = [name for name in wanted if isinstance(wanted[name], tuple) and name in found]
    wrong += [name for name in told if wanted[name] != found[name]]
    if wrong:
        raise InputError(
            f"{state.path} does not hold this run: {len(wrong)} {what} are missing, unknown, "
            f"of another shape or type, or not finite: {first_of(wrong)}"
        )


def tell_other_processes(state: ResumeState, recipe: Recipe, student: DenseDetector) -> None:
    """Tell what makes the rest of a run another one with another number of processes."""
    if state.processes in (None, process_count()):
        return
    reasons = []
    if learns_batch_norm(student) and not recipe.images_per_group:
        reasons.append("BatchNorm takes its statistics over the images of a process")
    if any(isinstance(module, StochasticDepth) for module in student.modules()):
        reasons.append("stochastic depth is random in each process")
    if reasons:
        tell(
            f"{state.path} is of {state.processes} processes, the run goes on with "
            f"{process_count()}, and ends with other weights: {', and '.join(reasons)}"
        )

"""The resume state: all that a killed run needs to end as if it had not been killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bckd.checkpoints import STUDENT, load_strictly, read_tensors, save_tensors
from bckd.errors import InputError
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.serialisation import from_plain, to_plain

STATE = "resume.safetensors"  # the file name in the folder of a run
# A resumed run may differ in these: they do not touch the weights (the folder of the data
# may have moved; another device rounds differently).
FREE_FIELDS = {
    "out",
    "device",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "log_gradients",
    "data.root",
    "data.workers",
    "data.val_images",
    "data.val_annotations",
    "data.first_val",
    "model.postprocess",
}


@dataclass(frozen=True)
class ResumeState:
    """A run after `step` steps and `seconds` of training.

    Attributes:
        tensors: the student's, as `model/NAME`, and the optimiser's, as
            `optimizer/PARAMETER/NAME`.
        recipe: the run's, as plain JSON values.
    """

    tensors: dict[str, Tensor]
    step: int
    seconds: float
    recipe: dict[str, Any]


def save_state(
    out: Path,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
    recipe: Recipe,
) -> None:
    """Write the resume state of a run into its folder; atomically."""
    tensors = {f"model/{name}": value for name, value in detector.state_dict().items()}
    for parameter, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:  # SGD without momentum keeps an empty buffer
                tensors[f"optimizer/{parameter}/{name}"] = torch.as_tensor(value)
    header = {
        "step": str(step),
        "seconds": str(seconds),
        "recipe": json.dumps(to_plain(recipe)),
    }
    save_tensors(out / STATE, tensors, header)


def restore(state: ResumeState, detector: Detector, optimizer: torch.optim.Optimizer) -> None:
    """Put the tensors of a resume state back into the detector and its optimiser."""
    weights: dict[str, Tensor] = {}
    buffers: dict[int, dict[str, Tensor]] = {}
    for name, value in state.tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "model":
            weights[rest] = value
        else:
            parameter, _, key = rest.partition("/")
            buffers.setdefault(int(parameter), {})[key] = value
    load_strictly(detector, weights, Path(STATE))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": buffers, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                # Fused optimisers read buffers in the parameter's memory layout.
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def state_to_resume(recipe: Recipe, resume: bool) -> ResumeState | None:
    """The state to go on from, or None to start; no run is overwritten silently.

    Raises:
        InputError: the folder holds a run and `resume` is off, or the run was
            started with another recipe.
    """
    path = recipe.out / STATE
    if not resume:
        if path.exists() or (recipe.out / STUDENT).exists():
            raise InputError(
                f"{recipe.out} already holds a run; --resume continues it, "
                f"another --out starts anew"
            )
        return None
    if not path.exists():
        if (recipe.out / STUDENT).exists():
            raise InputError(f"{recipe.out} holds a student but no {STATE} to go on from")
        return None
    state = _read_state(path)
    recorded = to_plain(from_plain(Recipe, state.recipe, str(path)))  # new fields: their defaults
    difference = _first_difference(recorded, to_plain(recipe), "")
    if difference:
        raise InputError(f"{recipe.out} was started with another recipe: {difference}")
    return state


def _read_state(path: Path) -> ResumeState:
    tensors, header = read_tensors(path)
    if not {"step", "seconds", "recipe"} <= set(header):
        raise InputError(f"{path} is no resume state of bckd")
    recipe = json.loads(header["recipe"])
    return ResumeState(tensors, int(header["step"]), float(header["seconds"]), recipe)


def _first_difference(recorded: Any, ours: Any, name: str) -> str | None:
    """The first field, by its dotted name, in which two plain recipes differ."""
    if name in FREE_FIELDS or recorded == ours:
        return None
    if isinstance(recorded, dict) and isinstance(ours, dict):
        prefix = f"{name}." if name else ""
        found = (_first_difference(recorded.get(k), ours[k], prefix + k) for k in ours)
        return next((text for text in found if text), None)
    return f"{name} was {recorded!r}, now {ours!r}"

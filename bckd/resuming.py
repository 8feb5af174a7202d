"""The resume state: all that a killed run needs to end as if it had not been killed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bckd.checkpoints import load_strictly, save_tensors
from bckd.distributed import joined_lists, process_count
from bckd.errors import InputError
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.tensor_files import read_tensors
from bckd.unfinished import STATE, STUDENT
from bckd.values import from_plain, to_plain

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
    """A run that can go on.

    Attributes:
        step, seconds: how many steps it has made, and how long it trained.
        scaler: state of the loss scale of fp16; empty where earlier versions wrote it.
        tensors: the student's, as `model/NAME`, and the optimiser's, as
            `optimizer/PARAMETER/NAME`.
        recipe: the run's, as plain JSON values.
    """

    tensors: dict[str, Tensor]
    step: int
    seconds: float
    recipe: dict[str, Any]
    scaler: dict[str, Any]


def save_state(
    out: Path,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    step: int,
    seconds: float,
    recipe: Recipe,
) -> None:
    """Write the resume state of a run into its folder; atomically."""
    tensors = {f"model/{name}": value for name, value in detector.state_dict().items()}
    for name, parameter in detector.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD without momentum keeps an empty buffer
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
    header = {
        "step": str(step),
        "seconds": str(seconds),
        "recipe": json.dumps(to_plain(recipe)),
        "scaler": json.dumps(scaler.state_dict()),
        "class_names": json.dumps(detector.class_names),
    }
    save_tensors(out / STATE, tensors, header)


def restore(
    state: ResumeState,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put what a resume state holds back into the detector, its optimiser and the loss scale."""
    if scaler.is_enabled() and state.scaler:
        scaler.load_state_dict(state.scaler)
    weights: dict[str, Tensor] = {}
    buffers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "model":
            weights[rest] = value
        else:
            parameter, _, key = rest.partition("/")
            buffers.setdefault(parameter, {})[key] = value
    load_strictly(detector, weights, Path(STATE))
    learning = [name for name, p in detector.named_parameters() if p.requires_grad]
    if all(name.isdigit() for name in buffers):  # earlier states number the parameters
        buffers = {learning[int(number)]: values for number, values in buffers.items()}
    names = {id(p): name for name, p in detector.named_parameters()}
    groups = optimizer.state_dict()["param_groups"]
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    numbered = {n: buffers[name] for n, name in enumerate(order) if name in buffers}
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})
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
    recorded = from_plain(Recipe, state.recipe, str(path))  # new fields: their defaults
    ours, theirs = (to_plain(replace(x, model=x.model.resolved())) for x in (recipe, recorded))
    difference = _first_difference(theirs, ours, "")
    if difference:
        raise InputError(f"{recipe.out} was started with another recipe: {difference}")
    return state


def agreed_state(recipe: Recipe, resume: bool) -> ResumeState | None:
    """What `state_to_resume` finds, which has to be the same in all processes of a run.

    Raises:
        InputError: as `state_to_resume`, in every process; or processes find different states.
    """
    state, refusal = None, None
    try:
        state = state_to_resume(recipe, resume)
    except InputError as error:
        refusal = error
    everywhere = joined_lists([_found(recipe.out, state, refusal)])
    other = next((n for n, found in enumerate(everywhere) if found != everywhere[0]), None)
    if other is not None:
        raise InputError(
            f"in {recipe.out} process 0 finds {everywhere[0]}, process {other} "
            f"{everywhere[other]}; expected one folder that all processes see"
        )
    if refusal is not None:
        raise refusal
    return state


def _found(out: Path, state: ResumeState | None, refusal: InputError | None) -> str:
    """What a process finds in the folder of the run, to be compared with what others find."""
    if refusal is not None:
        return f"a run that it can't go on with ({refusal})"
    if state is None or process_count() == 1:
        return "no run"
    with (out / STATE).open("rb") as file:
        return f"a run of {state.step} steps (SHA-256 {file_digest(file, 'sha256').hexdigest()})"


def _read_state(path: Path) -> ResumeState:
    tensors, header = read_tensors(path)
    if not {"step", "seconds", "recipe"} <= set(header):
        raise InputError(f"{path} is no resume state of bckd")
    recipe = json.loads(header["recipe"])
    scaler = json.loads(header.get("scaler", "{}"))
    return ResumeState(tensors, int(header["step"]), float(header["seconds"]), recipe, scaler)


def _first_difference(recorded: Any, ours: Any, name: str) -> str | None:
    """The first field, by its dotted name, in which two plain recipes differ."""
    if name in FREE_FIELDS or recorded == ours:
        return None
    if isinstance(recorded, dict) and isinstance(ours, dict):
        prefix = f"{name}." if name else ""
        found = (_first_difference(recorded.get(k), ours[k], prefix + k) for k in ours)
        return next((text for text in found if text), None)
    return f"{name} was {recorded!r}, now {ours!r}"

"""The resume state: all that a killed run needs to end as if it had not been killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bckd.distributed import joined_lists, process_count
from bckd.errors import InputError
from bckd.files import parse_json, sha256_of
from bckd.models.dense import DenseDetector
from bckd.named import file_of
from bckd.recipes import Recipe
from bckd.telling import first_of, tell
from bckd.training.loss_window import HeldWindow
from bckd.training.run_log import LOG
from bckd.values import Count, CountOrZero, PositiveOrZero, from_plain, to_plain
from bckd.weights.published import PRETRAINED
from bckd.weights.tensor_files import fill, read_tensors, save_tensors
from bckd.zoo.checkpoints import load_strictly
from bckd.zoo.unfinished import MODEL, STATE, STUDENT, Damaged, check_whole, checksum, is_state

PREVIOUS = "resume.previous.safetensors"  # of the state before it
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
    "data.prefetch",
    "data.val_images",
    "data.val_annotations",
    "data.first_val",
    "model.postprocess",
}
ABSENT = "absent"  # in place of a file's SHA-256


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
            `terms/NAME`, and the optimiser's, as `optimizer/PARAMETER/NAME`.
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


def contents_of(recipe: Recipe, teacher: nn.Module | None = None) -> dict[str, str]:
    """What decides a run's outcome beside its recipe: SHA-256 by the field that names the file.

    Weights that load by name are their name. Of terms and augmentations of one's own it is the
    file of the module, by field and text.

    Args:
        teacher: a module in place of a file.
    """
    contents = {"data.train_annotations": _digest(recipe.data.root / recipe.data.train_annotations)}
    for name, source in (("teacher", recipe.teacher), ("start", recipe.start)):
        if source is not None:
            published = str(source) in PRETRAINED and not source.exists()
            file = source / STUDENT if source.is_dir() else source
            contents[name] = str(source) if published else _digest(file)
    named = [("terms", text, text.partition("=")[0]) for text in recipe.terms]
    named += [("data.augmentations", text, text) for text in recipe.data.augmentations]
    for field_name, text, place in named:
        source = file_of(place, field_name)
        contents[f"{field_name} {text}"] = ABSENT if source is None else _digest(source)
    if teacher is not None:
        weights = {name: value.detach().cpu() for name, value in teacher.state_dict().items()}
        contents["teacher"] = checksum(weights, {})
    return contents


def _digest(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ABSENT


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
) -> None:
    """Write the resume state of a run into its folder; atomically. The one before it is kept.

    Args:
        terms: of the recipe's own; without parameters where none of them learns.
    """
    tensors = {MODEL + name: value for name, value in detector.state_dict().items()}
    tensors |= {f"terms/{name}": value for name, value in terms.state_dict().items()}
    for name, parameter in _learning(detector, terms).items():
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


def restore(
    state: ResumeState,
    detector: DenseDetector,
    terms: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put what a resume state holds back into the detector, terms, optimiser and loss scale.

    Raises:
        InputError: a tensor or number is missing, unknown or of another shape.
    """
    weights: dict[str, dict[str, Tensor]] = {"model": {}, "terms": {}}
    buffers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.tensors.items():
        kind, _, rest = name.partition("/")
        if kind in weights:
            weights[kind][rest] = value
        else:
            parameter, _, key = rest.partition("/")
            buffers.setdefault(parameter, {})[key] = value
    load_strictly(detector, weights["model"], state.path)
    fill(terms, weights["terms"], str(state.path), "holds other terms")
    learning = _learning(detector, terms)
    if buffers and all(name.isdigit() for name in buffers):  # earlier states number them
        numbers = {str(n): name for n, name in enumerate(learning)}
        buffers = {numbers.get(number, number): values for number, values in buffers.items()}
    if scaler.is_enabled() and state.scaler:
        _check_names(state, "entries of the loss scale", scaler.state_dict(), state.scaler)
        scaler.load_state_dict(state.scaler)
    # In fp16 every step so far may have been left out.
    if buffers or not (scaler.is_enabled() or state.step == 0):
        _check_buffers(state, buffers, learning, _kinds_of_buffers(optimizer))
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


def _learning(detector: nn.Module, terms: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters that learn, by the name that a state gives them."""
    named = list(detector.named_parameters())
    named += [(f"terms:{name}", parameter) for name, parameter in terms.named_parameters()]
    return {name: parameter for name, parameter in named if parameter.requires_grad}


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


def state_to_resume(
    recipe: Recipe, resume: bool, contents: dict[str, str] | None = None
) -> ResumeState | None:
    """The state to go on from, or None to start; no run is overwritten silently.

    Args:
        contents: see `contents_of`; None: of the recipe alone.

    Raises:
        InputError: the folder holds a run and `resume` is off; the run was started with another
            recipe, or with other contents of a file that it names; or its states are damaged.
    """
    out = recipe.out
    paths = [path for path in (out / STATE, out / PREVIOUS) if path.exists()]
    if not resume:
        if paths or (out / STUDENT).exists():
            raise InputError(
                f"{out} already holds a run; --resume continues it, another --out starts anew"
            )
    elif not paths and (out / STUDENT).exists():
        raise InputError(f"{out} holds a student but no {STATE} to go on from")
    if not paths:
        if (out / LOG).exists():
            tell(f"{out} holds a {LOG} but no {STATE}: the run starts, and its log, at step 0")
        return None
    state = _newest_good(paths)
    recorded = from_plain(Recipe, state.recipe, str(state.path))  # new fields: their defaults
    if state.step > recorded.steps:
        raise InputError(f"{state.path} has step {state.step}; expected {recorded.steps} or less")
    ours, theirs = (to_plain(replace(x, model=x.model.resolved())) for x in (recipe, recorded))
    difference = _first_difference(theirs, ours, "", FREE_FIELDS | set(state.contents))
    if difference:
        raise InputError(f"{out} was started with another recipe: {difference}")
    _check_contents(state, recipe, contents_of(recipe) if contents is None else contents)
    return state


def _newest_good(paths: list[Path]) -> ResumeState:
    """The first state that is whole; damage of one before it is told."""
    damage: list[Damaged] = []
    for path in paths:
        try:
            state = _read_state(path)
        except Damaged as error:
            damage.append(error)
        else:
            if damage:
                tell(f"{damage[0]}; the run goes on from {path.name}, step {state.step}")
            return state
    raise damage[0]


def _check_contents(state: ResumeState, recipe: Recipe, ours: dict[str, str]) -> None:
    """The files that decided the run so far, wherever they lie now, are the same."""
    for name, recorded in state.contents.items():
        found = ours.get(name, "none")
        if found not in (recorded, ABSENT):
            raise InputError(
                f"{recipe.out} was started with another content of {name}: SHA-256 {recorded}, "
                f"now {found}; a file may move, but not change"
            )


def make_newest(state: ResumeState) -> None:
    """Give a state that was kept beside a damaged one the place of that."""
    if state.path.name == PREVIOUS:
        os.replace(state.path, state.path.with_name(STATE))


def agreed_state(
    recipe: Recipe, resume: bool, contents: dict[str, str] | None = None
) -> ResumeState | None:
    """What `state_to_resume` finds, which has to be the same in all processes of a run.

    Raises:
        InputError: as `state_to_resume`, in every process; or processes find different states.
    """
    state, refusal = None, None
    try:
        state = state_to_resume(recipe, resume, contents)
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
    return f"a run of {state.step} steps (SHA-256 {_digest(state.path)})"


def _read_state(path: Path) -> ResumeState:
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


def _first_difference(recorded: Any, ours: Any, name: str, free: set[str]) -> str | None:
    """The first field, by its dotted name, in which two plain recipes differ, but for free ones."""
    if name in free or recorded == ours:
        return None
    if isinstance(recorded, dict) and isinstance(ours, dict):
        prefix = f"{name}." if name else ""
        found = (_first_difference(recorded.get(k), ours[k], prefix + k, free) for k in ours)
        return next((text for text in found if text), None)
    return f"{name} was {recorded!r}, now {ours!r}"

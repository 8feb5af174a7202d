"""Whether a run goes on: which state of it is whole, and whether it is the same run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bckd.recipes import Recipe
from bckd.system.distributed import joined_lists, process_count
from bckd.system.errors import InputError
from bckd.system.telling import tell
from bckd.system.values import from_plain, to_plain
from bckd.training.resume_state import PREVIOUS, ResumeState, read_state
from bckd.training.run_contents import ABSENT, contents_of, digest
from bckd.training.run_log import LOG
from bckd.zoo.unfinished import STATE, STUDENT, Damaged

# A resumed run may differ in these: they do not touch the weights (the folder of the data
# may have moved; another device rounds differently).
FREE_FIELDS = {
    "out",
    "device",
    "accumulate",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "patience",
    "log_gradients",
    "data.root",
    "data.workers",
    "data.prefetch",
    "data.unreadable",
    "data.val_images",
    "data.val_annotations",
    "data.first_val",
    "evaluation",
    "model.postprocess",
}


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
        check_free(out)
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


def check_free(out: Path) -> None:
    """Refuse a folder that holds a run.

    Raises:
        InputError: it does.
    """
    if any((out / name).exists() for name in (STATE, PREVIOUS, STUDENT)):
        raise InputError(
            f"{out} already holds a run; --resume continues it, another --out starts anew"
        )


def _newest_good(paths: list[Path]) -> ResumeState:
    """The first state that is whole; damage of one before it is told."""
    damage: list[Damaged] = []
    for path in paths:
        try:
            state = read_state(path)
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
    return f"a run of {state.step} steps (SHA-256 {digest(state.path)})"


def _first_difference(recorded: Any, ours: Any, name: str, free: set[str]) -> str | None:
    """The first field, by its dotted name, in which two plain recipes differ, but for free ones."""
    if name in free or recorded == ours:
        return None
    if isinstance(recorded, dict) and isinstance(ours, dict):
        prefix = f"{name}." if name else ""
        found = (_first_difference(recorded.get(k), ours[k], prefix + k, free) for k in ours)
        return next((text for text in found if text), None)
    return f"{name} was {recorded!r}, now {ours!r}"

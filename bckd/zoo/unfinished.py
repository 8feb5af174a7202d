"""What of a run can be used as a detector before the run has ended, or after it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from bckd.datasets.annotations import class_names_of
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.files import parse_json
from bckd.system.values import Names, from_plain
from bckd.weights.tensor_files import read_header

STUDENT = "student.safetensors"  # file names in the folder of a run
STATE = "resume.safetensors"
SNAPSHOTS = "snapshots"  # a folder of students, each named by its step
MODEL = "model/"  # what the names of the student's weights begin with in a state
AVERAGED = "averaged/"  # likewise of their average, where a run has one


class Damaged(InputError):
    """A resume state that is not as it was written."""


def weights_of_run(folder: Path) -> Path:
    """The weights in the folder of a run: its student, else the newest state or snapshot.

    Where there is none, the path at which the student would be.
    """
    if (folder / STUDENT).exists():
        return folder / STUDENT
    steps = {**dict(_states(folder)), **dict(_snapshots(folder))}
    return max(steps, key=lambda path: steps[path], default=folder / STUDENT)


def _states(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in folder.glob(f"{Path(STATE).stem}*.safetensors"):
        try:
            yield path, int(read_header(path)["step"])
        except (KeyError, ValueError):  # of it an InputError is a kind
            continue  # damaged: another one may do


def _snapshots(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in (folder / SNAPSHOTS).glob("*.safetensors"):
        if path.stem.isdecimal():
            yield path, int(path.stem)


def is_state(header: dict[str, str]) -> bool:
    """Whether a safetensors file with this header is the resume state of a run."""
    return {"step", "seconds", "recipe"} <= set(header)


def checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """SHA-256 of tensors on the CPU and of a header, but for its own place in there."""
    digest = sha256()
    for name, text in sorted(header.items()):
        if name != "checksum":
            digest.update(f"{name} {text}\n".encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_whole(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """See that a state is as it was written; early ones do not say it.

    Raises:
        Damaged: it is not.
    """
    if "checksum" in header and header["checksum"] != json.dumps(checksum(tensors, header)):
        raise Damaged(f"{path} is damaged: its checksum is another")


def recipe_of(path: Path, header: dict[str, str]) -> Recipe:
    """The recipe of a run, from the header of its state.

    Raises:
        InputError: it is none.
    """
    recipe = parse_json(header["recipe"], f"{path}: recipe in its header")
    return from_plain(Recipe, recipe, f"{path}: recipe")


def classes_of(path: Path, header: dict[str, str], recipe: Recipe) -> tuple[str, ...] | None:
    """The class names of a state: its own, else those of the data that it is trained on.

    None where it is an early state, which has no names, and its data are gone.
    """
    if "class_names" in header:
        names = parse_json(header["class_names"], f"{path}: class_names in its header")
        return from_plain(Names, names, f"{path}: class_names")
    try:
        return class_names_of(recipe.data.root / recipe.data.train_annotations)
    except InputError:
        return None

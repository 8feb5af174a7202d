"""One detector's weights in a file that other programs wrote, whatever is around them.

Weights may lie at any depth (`state_dict`, `model`, `ema`, ...), beside those of a teacher, of an
average or of an optimiser, and their names may begin with what a framework wraps around a module
(`module.`, `architecture.`, ...). What was chosen is told in a note. Nothing is loaded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bckd.system.errors import InputError
from bckd.system.telling import first_of
from bckd.weights.tensor_files import (
    is_safetensors,
    read_around_objects,
    read_saved,
    read_tensors,
)

SETTINGS = "bckd"  # in a file's "meta": what the official layout has no place for
_DEPTH = 3  # of containers in one another
_BACKBONE = re.compile(r"((?:[^.]+\.)*)backbone\.")
_OTHERS = re.compile(
    r"teacher|(?<![a-z])ema(?![a-z])|shadow|averag|avg"
)  # a student's plain weights go before these
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|message_hub|callbacks|loops")  # of a training state
# What torch.compile, FSDP and checkpointing put anywhere into a name.
_WITHIN = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_NAMES = ("CLASSES", "classes", "class_names", "names")
# Beside a detector's own: how images are normalised (mmdetection 3), how often was averaged.
_BESIDE = re.compile(r"^(data_preprocessor\.|n_averaged$|steps$)")


@dataclass(frozen=True)
class OfficialFile:
    """What a file holds.

    Attributes:
        state_dict: of one detector, without prefixes.
        class_names: where the file has them.
        settings: what bckd wrote beside the weights it exported, as JSON text.
        config: mmdetection's configuration, as the text that it wrote beside its weights.
        notes: a sentence for each choice that reading it took.
    """

    state_dict: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    settings: str | None
    config: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """The weights of one detector: those in a container whose names begin with a prefix."""

    container: str
    prefix: str

    @property
    def is_other(self) -> bool:
        return _OTHERS.search(self.place.lower()) is not None

    @property
    def place(self) -> str:
        """Where it is in the file, for messages."""
        return ".".join(x for x in (self.container, self.prefix.rstrip(".")) if x)


def read_official(path: Path) -> OfficialFile:
    """Read a file of the official code, of mmdetection or of NanoDet; no code in it runs.

    Of several detectors in it one is taken: a student before its teacher or its average.

    Raises:
        InputError: the file is absent, holds no state dict, or several and nothing tells which is
            meant.
    """
    content, objects = _read(path)
    containers = dict(_containers(content))
    containers = {place: _without_wrappers(entries) for place, entries in containers.items()}
    if not containers:
        if objects:
            read_saved(path)  # which refuses them, and says why
        top = f", found {first_of([str(x) for x in content])}" if _is_filled(content) else ""
        raise InputError(f"{path} holds no state dict: expected names and tensors{top}")
    state_dict, notes = _one_detector(path, containers, content)
    if objects:
        notes.append(f"objects beside its weights are passed over ({first_of([*objects])})")
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    # Files of FCOS from before mmdetection 2.1 have older names for its predictors.
    renamed = {re.sub(r"^bbox_head\.fcos_", "bbox_head.conv_", n): x for n, x in state_dict.items()}
    return OfficialFile(
        renamed,
        _class_names(content, meta, path),
        _text(meta.get(SETTINGS)),
        _text(meta.get("cfg")) or _text(meta.get("config")),
        tuple(notes),
    )


def _read(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The content of a file, and which objects in it were not read."""
    if not is_safetensors(path):
        return read_around_objects(path)
    tensors, header = read_tensors(path)
    return {"state_dict": tensors, "meta": {name: _plain(x) for name, x in header.items()}}, ()


def _plain(text: str) -> Any:
    """What an entry of a safetensors header says: JSON, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _containers(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every dictionary of names and tensors in a file, by where it is; none of an optimiser's."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if depth < _DEPTH and not _NO_WEIGHTS.search(name.lower()):
            yield from _containers(value, f"{place}.{name}" if place else name, depth + 1)


def _without_wrappers(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries by their names in the module itself, unless two would get one name."""
    plain = {_WITHIN.sub("", name): value for name, value in entries.items()}
    return plain if len(plain) == len(entries) else entries


def _is_filled(content: Any) -> bool:
    return isinstance(content, dict) and bool(content)


def _one_detector(
    path: Path, containers: dict[str, dict[str, Tensor]], content: dict[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """The entries of one detector without their prefix, and notes of what that left out."""
    groups = list(
        dict.fromkeys(
            _Group(place, found[1])
            for place, entries in containers.items()
            for name in entries
            if (found := _BACKBONE.match(name)) is not None
        )
    )
    if not groups:  # what is missing is said by who reads them
        place = "state_dict" if "state_dict" in containers else next(iter(containers))
        return containers[place], []
    group = _chosen(path, groups)
    entries = containers[group.container]
    beside = tuple(x.prefix for x in groups if x.container == group.container and x != group)
    beside = tuple(prefix for prefix in beside if prefix)
    kept = {
        name.removeprefix(group.prefix): value
        for name, value in entries.items()
        if name.startswith(group.prefix)
        and not (beside and name.startswith(beside))
        and not name.startswith("ema_")
    }
    known = {name: x for name, x in kept.items() if not _BESIDE.search(name)}
    notes = [f"the prefix {group.prefix!r} of its entries is taken off"] if group.prefix else []
    left = [x for x in entries if x.removeprefix(group.prefix) not in kept and not _beside(x)]
    if left:
        notes.append(f"{len(left)} entries of another detector are left out: {first_of(left)}")
    others = [x.place for x in groups if x.container != group.container]
    if others:
        averaged = " (where MMEngine saves the averaged ones)" if _swaps(content, others) else ""
        taken = group.container or "the file itself"
        notes.append(f"the weights in {taken}{averaged} are taken, not those in {first_of(others)}")
    elif group.container not in ("", "state_dict"):
        notes.append(f"the weights in {group.container} are taken")
    return known, notes


def _beside(name: str) -> bool:
    return _BESIDE.search(name) is not None


def _swaps(content: dict[str, Any], others: list[str]) -> bool:
    """Whether MMEngine wrote the file, which swaps plain and averaged weights."""
    meta = content.get("meta")
    engine = isinstance(meta, dict) and "mmengine_version" in meta
    return (engine or "message_hub" in content) and "ema_state_dict.module" in others


def _chosen(path: Path, groups: list[_Group]) -> _Group:
    """The plain one, else a student before its teacher or its average.

    Raises:
        InputError: nothing tells which is meant.
    """
    plain = [group for group in groups if not group.is_other] or groups
    bare = [group for group in plain if group.prefix == ""]
    found = bare if len(bare) == 1 else plain
    if len(found) > 1:
        places = [group.place or "the file itself" for group in found]
        raise InputError(
            f"{path} holds the weights of {len(found)} detectors ({first_of(places)}); expected "
            f"one, or names that tell a student from its teacher or its average"
        )
    return found[0]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_empty(names: Any) -> bool:
    return isinstance(names, list | tuple | str | dict) and not names


def _class_names(
    content: dict[str, Any], meta: dict[Any, Any], path: Path
) -> tuple[str, ...] | None:
    """The class names in a file, wherever a version of a framework has them."""
    sure = [meta, meta.get("dataset_meta")]
    likely = [content.get(x) for x in ("dataset_meta", "hyper_parameters", "hparams")]
    found = (_as_names(value) for value in _values([*likely, content]))
    for names in _values(sure):
        read = _as_names(names)
        if read is None:
            raise InputError(f"{path}: its class names are {names!r:.80}; expected a list of texts")
        return read
    return next((x for x in found if x is not None), None)


def _values(places: list[Any]) -> Iterator[Any]:
    """What stands under a key of class names, and is not empty."""
    for place in places:
        values = (place.get(key) for key in _NAMES) if isinstance(place, dict) else ()
        yield from (x for x in values if x is not None and not _is_empty(x))


def _as_names(value: Any) -> tuple[str, ...] | None:
    """Names from a list, a single text, or texts by number; None where it is none of these."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, dict) and sorted(map(str, value)) == sorted(map(str, range(len(value)))):
        value = [value[key] for key in sorted(value, key=int)]
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None

"""How a student was made, as its file says it.

Nothing in it depends on when or where: a rerun writes the same bytes. How long a run took is in
its folder (`results.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bckd.system.files import finite_or_none, parse_json
from bckd.system.values import from_plain, to_plain

ENTRY = "made"  # of a file's header
_DIGITS = 12  # of a SHA-256 that are shown


@dataclass(frozen=True)
class Source:
    """A file that a student was made from: its name, without folders, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Part:
    """A part of a data set: its annotation file, and what of it was used.

    Attributes:
        objects: boxes by class.
    """

    annotations: Source
    images: int
    objects: dict[str, int]

    def __str__(self) -> str:
        boxes = sum(self.objects.values())
        return f"{self.annotations.name}: {self.images} images, {boxes} objects"


@dataclass(frozen=True)
class Point:
    """A step of the curve: the loss there, or the AP after it, from 0 to 1."""

    step: int
    loss: float | None = None
    AP: float | None = None


@dataclass(frozen=True)
class Made:
    """How a student was made.

    Attributes:
        detector: what it is, in words.
        recipe: as plain values, without the run's folder; of other paths the names alone are kept
            where they began at the root of a disk.
        steps: that it took.
        teacher, start: None where there was none.
        metrics: of the evaluation with which it was saved, as `Metrics` has them.
        curve: up to then, thinned out.
        versions: by package.
        device: what it was trained on.
        processes: that shared a step.
        own_module: whether it is a module of the user's, which is needed to load it.
    """

    detector: str
    recipe: dict[str, Any]
    steps: int
    train: Part
    val: Part
    metrics: dict[str, Any]
    curve: tuple[Point, ...]
    versions: dict[str, str]
    device: str
    processes: int = 1
    teacher: Source | None = None
    start: Source | None = None
    own_module: bool = False

    def __str__(self) -> str:
        rows = dict(self._rows())
        width = max(map(len, rows))
        return "\n".join(f"{name:{width}}  {text}" for name, text in rows.items())

    def _rows(self) -> Iterator[tuple[str, str]]:
        recipe = self.recipe
        yield "student", f"{self.detector}, {len(self.train.objects)} classes"
        yield "teacher", _source(self.teacher)
        if self.start is not None:
            yield "start", _source(self.start)
        yield "terms", ", ".join(f"{name} {x:g}" for name, x in distilled(recipe).items()) or "none"
        yield "trained on", f"{self.train} ({_digits(self.train.annotations)})"
        yield "judged on", f"{self.val} ({_digits(self.val.annotations)})"
        batch, seed = recipe.get("batch_size"), recipe.get("seed")
        yield "steps", f"{self.steps} of {batch} images, seed {seed}"
        scored = [f"{100 * x.AP:.1f} ({x.step})" for x in self.curve if x.AP is not None]
        yield "AP (step)", ", ".join(scored) or "unknown"
        classes = self.metrics.get("per_class") or {}
        known = [f"{name} {100 * x:.1f}" for name, x in classes.items() if x is not None]
        yield "AP by class", ", ".join(known) or "unknown"
        told = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        shared = f", {self.processes} processes" if self.processes > 1 else ""
        yield "made with", f"{told}, on {self.device}{shared}"


def distilled(recipe: dict[str, Any]) -> dict[str, float]:
    """The weights of a plain recipe's distillation terms, but for those that are 0."""
    from bckd.losses.terms import TERMS  # late: a header is read without the losses

    if recipe.get("teacher") is None:
        return {}
    weights = recipe.get("weights", {})
    own = (text.rpartition("=") for text in recipe.get("terms", []))
    return {name: weights[name] for name in TERMS if weights.get(name)} | {
        name: float(weight) for name, _, weight in own
    }


def _source(source: Source | None) -> str:
    return "none" if source is None else f"{source.name} ({_digits(source)})"


def _digits(source: Source) -> str:
    return f"SHA-256 {source.sha256[:_DIGITS]}"


def entry_of(made: Made | None) -> dict[str, str]:
    """What a file's header says of how its student was made."""
    return {} if made is None else {ENTRY: json.dumps(finite_or_none(to_plain(made)))}


def made_in(path: Path, header: dict[str, str]) -> Made | None:
    """How the student of a file was made; None where an earlier version wrote it.

    Raises:
        InputError: what is said is garbled.
    """
    if ENTRY not in header:
        return None
    name = f"{path}: {ENTRY} in its header"
    plain = parse_json(header[ENTRY], name)
    known = {x.name for x in fields(Made)}
    if isinstance(plain, dict):  # a later version may say more
        plain = {key: value for key, value in plain.items() if key in known}
    return from_plain(Made, plain, name)

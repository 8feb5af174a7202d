"""What two parts of a data set have in common that they should not, or not in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import PurePosixPath

from bckd.datasets.annotations import Annotations
from bckd.datasets.findings import Fault, Findings, Oddity
from bckd.inspection.notes import note_judged, note_shared
from bckd.inspection.parts import Inspected

_NOT_LEARNT = Fault(
    "classes with boxes that the training's file does not list",
    "expected the same names in both files",
)
_EMPTY = "classes that only {} lists"
_OTHER_IDS = Oddity("classes with another id in each file are matched by their names")
_SAME_NAMES = Oddity("file names that both have, of different pictures")


def compare(training: Inspected, other: Inspected) -> Findings:
    """What is wrong or odd of the training's part and another one together."""
    findings = Findings(f"{training.part.name} and {other.part.name}")
    if training.annotations is None or other.annotations is None:
        return findings
    ours, theirs = training.annotations, other.annotations
    _note_classes(ours, theirs, findings)
    note_judged(ours, theirs, frozenset(theirs.class_names), findings)
    note_shared(training.files, other.files, findings)
    _note_names(training, other, findings)
    return findings


def _note_classes(ours: Annotations, theirs: Annotations, findings: Findings) -> None:
    own, other = (dict(zip(x.class_names, x.category_ids, strict=True)) for x in (ours, theirs))
    unknown = theirs.occurring_classes - set(own)
    if unknown:
        findings.add(_NOT_LEARNT, *_named(unknown, own))
    for file, names, others in (
        (theirs, set(other) - set(own) - unknown, own),
        (ours, set(own) - set(other), other),
    ):
        if names:
            findings.add(Oddity(_EMPTY.format(file.path)), *_named(names, others))
    moved = [name for name in own if name in other and own[name] != other[name]]
    if moved:
        findings.add(_OTHER_IDS, *(f"{name!r} has {own[name]} and {other[name]}" for name in moved))


def _named(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """The names, each with one that the other file has and that may be meant."""
    by_letters = {name.casefold(): name for name in others}
    lines = []
    for name in sorted(names):
        near = difflib.get_close_matches(name.casefold(), by_letters, 1, cutoff=0.8)
        lines.append(f"{name!r} (there is {by_letters[near[0]]!r})" if near else repr(name))
    return lines


def _note_names(training: Inspected, other: Inspected, findings: Findings) -> None:
    """Names of files that lie apart; equal pictures are told elsewhere."""
    ours = {PurePosixPath(file.path.as_posix()).name: file for file in training.files}
    for file in other.files:
        same = ours.get(file.path.name)
        if same is not None and same.path != file.path and same.pixels != file.pixels:
            findings.add(_SAME_NAMES, file.path.name)

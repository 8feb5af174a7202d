"""A look at the teacher before it teaches: does it see anything on these images?

A teacher whose weights did not arrive, or that is shown images that it was not made for, teaches
noise and says nothing. So it has to find objects on a few validation images, as its
student will see them, before a run starts. What is wrong with it is said where that can be seen:
names that are exchanged, boxes that are moved (`faults`), images normalised or sized in another way
(`other_views`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import TypedDict

import numpy as np

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import Metrics, score
from bckd.evaluation.scorers import Results
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.telling import first_of, tell
from bckd.teachers.faults import (
    LEAST_TOLD,
    Seen,
    called_otherwise,
    exchanged,
    moved,
    names_given,
    seen_in,
)
from bckd.teachers.matching import Matched, own_names
from bckd.teachers.other_views import View, better_view
from bckd.zoo.checkpoints import Checkpoint

LEAST_AP = 0.01  # of a teacher, above what it has by chance
LEAST_SHARE = 0.5  # of its recorded AP
MANY_CLASSES = 8  # of more, not each is told


@dataclass(frozen=True)
class Preflight:
    """What was measured, in AP of 0..1.

    Attributes:
        images: how many validation images, the first by id.
        AP: the teacher's, with the student's images and classes; nan where these images
            show no object.
        chance: its AP with the detections of each image moved to the next one.
        student: the student's before training; None where it starts from random weights.
        recorded: what the teacher's file, or the table of published weights, says of it;
            None where nothing does, or where it was for other classes.
        per_class: (AP, objects) by class, of those that have an object there.
        fault: what is systematically wrong with its classes or boxes, and what to do; None where
            nothing is seen.
        doubts: sentences on single classes.
    """

    images: int
    AP: float
    chance: float
    student: float | None
    recorded: float | None
    per_class: dict[str, tuple[float, int]] = field(default_factory=dict)
    fault: str | None = None
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"AP {self.AP:.3f} on {self.images} validation images",
            f"chance {self.chance:.3f}",
        ]
        if self.student is not None:
            parts.append(f"the student {self.student:.3f}")
        if self.recorded is not None:
            parts.append(f"recorded {self.recorded:.3f}")
        return ", ".join(parts)

    @property
    def by_class(self) -> str:
        """The AP of each class, or of the three worst of many that have some objects."""
        chosen = self.per_class
        if len(chosen) > MANY_CLASSES:
            sure = {name: x for name, x in chosen.items() if x[1] >= LEAST_TOLD} or chosen
            chosen = dict(sorted(sure.items(), key=lambda item: item[1][0])[:3])
        said = ", ".join(f"{name} {ap:.3f} ({n})" for name, (ap, n) in chosen.items())
        worst = "" if len(chosen) == len(self.per_class) else "lowest "
        return f"{worst}AP by class (objects): {said}"


def check_teacher(
    recipe: Recipe, teacher: Checkpoint, student: DenseDetector, validation: CocoDataset
) -> None:
    """Try the teacher on `recipe.teacher_check` validation images, and say what came out.

    Args:
        teacher: as its student takes it (see `load_teacher`).
        student: before its first step; it is tried too where it has a start.
        validation: the recipe's.

    Raises:
        InputError: it is no better than chance or than the student, or far from its record.
    """
    if recipe.teacher_check == 0:
        return
    found = examine(recipe, teacher, student, validation)
    sizes = _other_size(teacher.size, recipe.data.size)
    who = _name(recipe)
    tell(f"{who}: {found}{sizes}")
    if found.per_class:
        tell(f"{who}: {found.by_class}")
    for doubt in found.doubts:
        tell(f"{who}: {doubt}")
    problem = found.fault or _problem(found)
    if problem:
        seen = None if found.fault else better_view(recipe, teacher, validation)
        advice = "" if found.fault else f": {seen or _advice(found)}"
        raise InputError(
            f"{who} {problem} ({found}{sizes}){advice}; --teacher-check 0 trains with it anyway"
        )


def _name(recipe: Recipe) -> str:
    """The teacher's, for messages; a module that was given to `train` has none."""
    return "teacher" if recipe.teacher is None else f"teacher {recipe.teacher}"


def _other_size(theirs: ImageSize, ours: ImageSize) -> str:
    """That the teacher was made for images of another size; nothing where it was not."""
    made, shown = ((size.short_side, size.long_side) for size in (theirs, ours))
    if made == shown:
        return ""
    made_for = f"it was made for images of {made[0]} by {made[1]} pixels"
    return f"; {made_for}, these are brought to {shown[0]} by {shown[1]}"


def examine(
    recipe: Recipe, teacher: Checkpoint, student: DenseDetector, validation: CocoDataset
) -> Preflight:
    """Measure what `check_teacher` decides by; arguments are the same."""
    annotations = validation.annotations.first(recipe.teacher_check)
    view = View(annotations, recipe.model.normalisation, validation.size)

    def measure(results: Results) -> Metrics:
        return score(results, annotations, scorer=recipe.evaluation.scorer)

    results = view.shown_to(teacher.detector, recipe, validation, _name(recipe))
    ids = [image.id for image in annotations.images]
    moved = dict(zip(ids, [*ids[1:], *ids[:1]], strict=True))
    wrong = [{**entry, "image_id": moved[entry["image_id"]]} for entry in results]
    started = None
    if recipe.start is not None:
        started = measure(view.shown_to(student, recipe, validation, "student")).AP
    metrics = measure(results)
    seen, names = seen_in(results, annotations), own_names(teacher.detector)
    objects = np.bincount(np.concatenate([x.labels for x in seen]), minlength=len(names))
    counted = zip(annotations.class_names, objects.tolist(), strict=True)
    return Preflight(
        images=len(ids),
        AP=metrics.AP,
        chance=measure(wrong).AP if len(ids) > 1 else 0.0,
        student=started,
        recorded=_recorded(teacher),
        per_class={name: (metrics.per_class[name], n) for name, n in counted if n},
        **_diagnosis(seen, annotations.class_names, names),
    )


class _Diagnosis(TypedDict):
    fault: str | None
    doubts: tuple[str, ...]


def _diagnosis(seen: Sequence[Seen], ours: tuple[str, ...], theirs: tuple[str, ...]) -> _Diagnosis:
    """What is systematically wrong, and what is odd about single classes.

    Args:
        ours, theirs: names of the K classes, as the data and as the teacher have them.
    """
    counts = names_given(seen, len(ours))
    circles = exchanged(counts)
    in_circles = [label for circle in circles for label in circle]
    called = called_otherwise(counts, LEAST_TOLD)
    doubts = [
        f"it finds {ours[b]!r} where the data say {ours[a]!r} ({counts[a, b]} of "
        f"{counts[a].sum()} objects); does its {theirs[b]!r} mean that (--teacher-classes)?"
        for a, b in called.items()
        if a not in in_circles
    ]
    missed = [
        f"{total} {ours[n]!r}"
        for n, total in enumerate(np.bincount(_labels(seen), minlength=len(ours)).tolist())
        if total >= LEAST_TOLD and not counts[n].any()
    ]
    unseen = [f"it finds none of the {first_of(missed)}"] if missed else []
    if circles:
        return {"fault": _exchanged(circles, counts, ours, theirs), "doubts": (*doubts, *unseen)}
    beside = moved(seen)
    fault = None
    if beside is not None:
        fault = (
            f"has boxes that {beside}, on all objects alike: was it made for images of another "
            f"size or padding, or is its box format another?"
        )
    return {"fault": fault, "doubts": (*doubts, *unseen)}


def _labels(seen: Sequence[Seen]) -> np.ndarray:
    return np.concatenate([image.labels for image in seen])


def _exchanged(
    circles: list[list[int]], counts: np.ndarray, ours: tuple[str, ...], theirs: tuple[str, ...]
) -> str:
    """Which names are exchanged, and the option that says so."""
    pairs = [pair for x in circles for pair in zip(x, [*x[1:], x[0]], strict=True)]
    found = [
        f"{ours[b]!r} where the data say {ours[a]!r} ({counts[a, b]} of {counts[a].sum()} objects)"
        for a, b in pairs
    ]
    option = " ".join(quote(f"{ours[a]}={theirs[b]}") for a, b in pairs)
    return (
        f"finds {first_of(found)}: the names of its classes are permuted, or those of the "
        f"data; --teacher-classes {option} exchanges them"
    )


def _recorded(teacher: Checkpoint) -> float | None:
    """The AP that its file gives it; None where the student has other classes."""
    detector = teacher.detector
    same = not isinstance(detector, Matched) or (
        not detector.lacks_any and len(detector.columns) == len(detector.teacher.class_names)
    )
    return teacher.record.get("AP") if same else None


def _advice(found: Preflight) -> str:
    if found.recorded is not None and found.AP >= LEAST_SHARE * found.recorded:
        return "its record says the same, so train it for longer, or take another one"
    return "are these its weights, classes and images (--teacher-classes, --data.size)?"


def _problem(found: Preflight) -> str | None:
    """What is wrong with the teacher; None where nothing is, or no object could tell."""
    if math.isnan(found.AP):
        return None
    if found.AP < found.chance + LEAST_AP:
        return "is no better than chance"
    if found.student is not None and found.AP <= found.student:
        return "is no better than the student that it shall teach"
    if found.recorded is not None and found.AP < LEAST_SHARE * found.recorded:
        return "is far below its recorded AP"
    return None

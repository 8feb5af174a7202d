"""A look at the teacher before it teaches: does it see anything on these images?

A teacher whose weights did not arrive, or that is shown images that it was not made for, teaches
noise and says nothing. So it has to find objects on a few validation images, as its
student will see them, before a run starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import detect, evaluation_loader, score
from bckd.evaluation.scorers import Results
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.system.distributed import process_count
from bckd.system.errors import InputError
from bckd.system.telling import tell
from bckd.teachers.matching import Matched
from bckd.zoo.checkpoints import Checkpoint

LEAST_AP = 0.01  # of a teacher, above what it has by chance
LEAST_SHARE = 0.5  # of its recorded AP
BATCH_SIZE = 8


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
    """

    images: int
    AP: float
    chance: float
    student: float | None
    recorded: float | None

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
    problem = _problem(found)
    if problem:
        raise InputError(
            f"{who} {problem} ({found}{sizes}): {_advice(found)} "
            f"--teacher-check 0 trains with it anyway"
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
    dataset = CocoDataset(
        validation.folder,
        annotations,
        validation.size,
        normalisation=recipe.model.normalisation,
    )

    def detections(detector: DenseDetector, who: str) -> Results:
        share = max(recipe.batch_size // process_count(), 1)  # what fits a card in training
        loader = evaluation_loader(dataset, min(BATCH_SIZE, share))
        return detect(detector, loader, annotations, progress=False, who=who)

    def measure(results: Results) -> float:
        return score(results, annotations, scorer=recipe.evaluation.scorer).AP

    results = detections(teacher.detector, _name(recipe))
    ids = [image.id for image in annotations.images]
    moved = dict(zip(ids, [*ids[1:], *ids[:1]], strict=True))
    wrong = [{**entry, "image_id": moved[entry["image_id"]]} for entry in results]
    started = recipe.start is not None
    return Preflight(
        images=len(ids),
        AP=measure(results),
        chance=measure(wrong) if len(ids) > 1 else 0.0,
        student=measure(detections(student, "student")) if started else None,
        recorded=_recorded(teacher),
    )


def _recorded(teacher: Checkpoint) -> float | None:
    """The AP that its file gives it; None where the student has other classes."""
    detector = teacher.detector
    own = detector.teacher.class_names if isinstance(detector, Matched) else detector.class_names
    return teacher.record.get("AP") if set(own) == set(detector.class_names) else None


def _advice(found: Preflight) -> str:
    if found.recorded is not None and found.AP >= LEAST_SHARE * found.recorded:
        return "its record says the same, so train it for longer, or take another one;"
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

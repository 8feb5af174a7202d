"""What each part of its output costs a student of a study, by swapping in the teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.agreement import agreement
from bckd.evaluation.average_precision import evaluate, evaluation_loader
from bckd.models.dense import DenseDetector
from bckd.studies.cells import teacher_of, train_cell, validation_of
from bckd.studies.study import Cell, Study, model_path, recipe_of
from bckd.studies.swaps import Part, with_part_of, with_shift


def measure_swaps(study: Study, cell: Cell, out: Path) -> dict[str, Any]:
    """AP of a cell's student with each part swapped, and with its common shift taken out.

    Returns:
        One line: "AP", "score_error" and "logit_shift" of the student as it is, AP by part
        under "swapped", and "AP", "AP, threshold moved" and "score_error" under "recentred".
    """
    result = train_cell(study, cell, out)
    device = next(result.detector.parameters()).device
    recipe, student = recipe_of(study, cell, out), result.detector
    taken = (student.class_names, student.strides, student.normalisation)
    teacher = teacher_of(model_path(study.teacher, out), *taken, recipe.teacher_classes).to(device)
    validation = validation_of(recipe.data, student.normalisation)
    loader = evaluation_loader(validation, 32)
    plain = agreement(student, teacher, loader)
    swapped = {
        part: evaluate(with_part_of(student, teacher, part), validation, 32, progress=False)[0].AP
        for part in get_args(Part)
    }
    return {
        "study": study.name,
        **asdict(cell),
        "AP": result.metrics.AP,
        "score_error": plain.score_error,
        "logit_shift": plain.logit_shift,
        "swapped": swapped,
        "recentred": dict(_recentred(student, teacher, validation, plain.logit_shift)),
    }


def _recentred(
    student: DenseDetector, teacher: DenseDetector, validation: CocoDataset, shift: float
) -> Iterator[tuple[str, float]]:
    """AP and score error once the common shift is taken out of every logit."""
    loader = evaluation_loader(validation, 32)
    yield "score_error", agreement(with_shift(student, -shift), teacher, loader).score_error
    settings = student.settings
    # The threshold too is moved, or low scores would leave the ranking at its end.
    moved = torch.tensor(settings.score_threshold).logit().sub(shift).sigmoid().item()
    for name, threshold in (("AP", settings.score_threshold), ("AP, threshold moved", moved)):
        altered = with_shift(student, -shift, replace(settings, score_threshold=threshold))
        yield name, evaluate(altered, validation, 32, progress=False)[0].AP

"""What each part of its output costs the students of a study, by swapping in the teacher's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm.auto import tqdm

from bckd.agreement import agreement
from bckd.checkpoints import STUDENT, load_detector
from bckd.datasets.coco import CocoDataset
from bckd.errors import InputError
from bckd.evaluation import evaluate, evaluation_loader
from bckd.files import finite_or_none, write_text
from bckd.models.detector import Detector
from bckd.preparation import validation_data
from bckd.studies.study import Cell, Study, model_path, recipe_of
from bckd.swaps import Part, with_part_of, with_shift


def measure_swaps(study: Study, lines: list[dict[str, Any]], out: Path, path: Path) -> None:
    """Write AP with each part swapped, one JSON line a student of the comparison.

    Args:
        lines: of the study; each run's student must still lie in its folder under `out`.
        path: file to write.

    Raises:
        InputError: a student is not there.
    """
    runs = [line for line in lines if line["part"] == "comparison" and line["AP"] is not None]
    found = [_measure(study, line, out) for line in tqdm(runs, desc="swaps")]
    write_text(path, "".join(json.dumps(finite_or_none(line)) + "\n" for line in found))


def _measure(study: Study, line: dict[str, Any], out: Path) -> dict[str, Any]:
    cell = Cell("comparison", line["method"], line["scale"], line["seed"])
    recipe = recipe_of(study, cell, out)
    if not (recipe.out / STUDENT).exists():
        raise InputError(f"{recipe.out} holds no student; run study {study.name} first")
    student = load_detector(recipe.out).detector
    teacher = load_detector(model_path(study.teacher, out)).detector
    validation = validation_data(recipe.data)
    precision = {
        part: evaluate(with_part_of(student, teacher, part), validation, 32, progress=False)[0]
        for part in get_args(Part)
    }
    names = ("study", "method", "scale", "seed", "AP", "logit_shift", "score_error")
    return {
        **{name: line[name] for name in names},
        "swapped": {part: metrics.AP for part, metrics in precision.items()},
        "recentred": dict(_recentred(student, teacher, validation, line["logit_shift"])),
    }


def _recentred(
    student: Detector, teacher: Detector, validation: CocoDataset, shift: float
) -> Iterator[tuple[str, float]]:
    """AP and score error once the common shift is taken out of every logit."""
    loader = evaluation_loader(validation, 32)
    yield "score_error", agreement(with_shift(student, -shift), teacher, loader).score_error
    settings = student.config.postprocess
    # The threshold too is moved, or low scores would leave the ranking at its end.
    moved = torch.tensor(settings.score_threshold).logit().sub(shift).sigmoid().item()
    for name, threshold in (("AP", settings.score_threshold), ("AP, threshold moved", moved)):
        altered = with_shift(student, -shift, replace(settings, score_threshold=threshold))
        yield name, evaluate(altered, validation, 32, progress=False)[0].AP

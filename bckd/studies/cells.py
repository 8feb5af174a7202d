"""One run of a study: trained, measured, one line of the results."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.agreement import agreement_with, valid_logits
from bckd.evaluation.average_precision import detect, evaluation_loader
from bckd.evaluation.error_analysis import analyse_errors
from bckd.evaluation.leaving_out import without_tenths
from bckd.models.dense import DenseDetector
from bckd.normalisation import IMAGENET, Normalisation
from bckd.recipes import DataConfig, Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies.options import RUNS
from bckd.studies.study import Cell, Study, changes_from, model_path, recipe_of
from bckd.system.device import pick_device
from bckd.system.errors import NonFiniteLossError
from bckd.teachers.matching import matched
from bckd.teachers.targets import Teaching
from bckd.training.data import training_data, validation_data
from bckd.training.run_log import read_log
from bckd.training.teacher import make_teaching, needs_features, renamed_classes
from bckd.training.trainer import RunResult, train
from bckd.zoo.checkpoints import load_detector

PRESET = "scenes"  # that lines name their changes to


def train_cell(study: Study, cell: Cell, out: Path) -> RunResult:
    """Train the cell's student, or go on where its folder stopped, or load what is there.

    Raises:
        NonFiniteLossError: it diverged.
    """
    recipe = recipe_of(study, cell, out)
    shares = recipe.teacher is not None and recipe.student is None
    teaching = _teaching(_asked(recipe), needs_features(recipe)) if shares else None
    return train(recipe, resume=recipe.out.exists(), progress=False, teaching=teaching)


def _asked(recipe: Recipe) -> Recipe:
    """Only what the teacher's answers depend on."""
    return replace(
        PRESETS[PRESET][1],
        teacher=recipe.teacher,
        teacher_classes=recipe.teacher_classes,
        data=recipe.data,
        model=recipe.model,
        precision=recipe.precision,
        teacher_precision=recipe.teacher_precision,
        device=recipe.device,
    )


def run_cell(study: Study, cell: Cell, out: Path) -> dict[str, Any]:
    """Train and measure: one line of the results.

    Scores are compared with the study's teacher's, whoever taught. A run that diverges has
    no AP, and says why under "failed".
    """
    line = {
        "study": study.name,
        **asdict(cell),
        "preset": PRESET,
        "changes": published_changes(study, cell),
    }
    try:
        result = train_cell(study, cell, out)
    except NonFiniteLossError as error:
        return {**line, "AP": None, "failed": str(error), **_provenance(None, study.device)}
    recipe = recipe_of(study, cell, out)
    validation = validation_of(recipe.data, result.detector.normalisation)
    student, teacher = result.detector, model_path(study.teacher, out)
    taken = (student.class_names, student.strides, student.normalisation)
    said = _said_by_teacher(teacher, recipe.data, *taken, recipe.teacher_classes)
    line |= asdict(result.metrics)
    line |= asdict(agreement_with(student, said, evaluation_loader(validation, 32)))
    if cell.part == "comparison":
        loader = evaluation_loader(validation, 32)
        found = detect(result.detector, loader, validation.annotations, progress=False)
        line |= asdict(analyse_errors(found, validation.annotations))
        line["without_tenth"] = without_tenths(found, validation.annotations)
        line["gradients"] = _gradients(recipe)
    return {**line, **_provenance(result.seconds, study.device)}


def teacher_of(
    path: Path,
    class_names: tuple[str, ...],
    strides: tuple[int, ...],
    normalisation: Normalisation,
    renamed: tuple[str, ...],
) -> DenseDetector:
    """A study's teacher as a student of these classes, levels and images takes it.

    Args:
        renamed: a recipe's `teacher_classes`.
    """
    teacher = load_detector(path, class_names).detector
    taken = (class_names, strides, normalisation, renamed_classes(renamed))
    return matched(teacher, f"teacher {path}", *taken)


@lru_cache(maxsize=2)
def _said_by_teacher(
    path: Path,
    data: DataConfig,
    class_names: tuple[str, ...],
    strides: tuple[int, ...],
    normalisation: Normalisation,
    renamed: tuple[str, ...],
) -> list[Tensor]:
    """The study's teacher on the validation images, as a student takes it; once a process."""
    teacher = teacher_of(path, class_names, strides, normalisation, renamed)
    return valid_logits(teacher, evaluation_loader(validation_of(data, normalisation), 32))


def published_changes(study: Study, cell: Cell) -> dict[str, Any]:
    """What `bckd train scenes` needs to be told to repeat a run, as plain JSON values.

    Models are named by their usual folder, wherever this run has them.
    """
    changes = changes_from(recipe_of(study, cell, RUNS), PRESETS[PRESET][1])
    for name in ("out", "device", "log_gradients", "seed"):
        changes.pop(name, None)
    return changes


def _gradients(recipe: Recipe, records: int = 10) -> list[dict[str, Any]]:
    """At most `records` of the log's records of the gradient, evenly spaced, the last included.

    Each has the "step", the "gradients" on the class logits and, but for runs of earlier versions,
    each term's share of the "pull".
    """
    log = [record for record in read_log(recipe.out) if "gradients" in record]
    count = min(records, len(log))
    kept = [log[(n + 1) * len(log) // count - 1] for n in range(count)]
    names = ("gradients", "pull")
    return [
        {"step": x["step"], **{name: _rounded(x[name]) for name in names if name in x}}
        for x in kept
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}")


def _provenance(seconds: float | None, device: str) -> dict[str, Any]:
    """Where and when; seconds of training (None: it failed) are no timing, runs share a machine."""
    return {
        "seconds": None if seconds is None else round(seconds, 1),
        "machine": _machine(torch.device(device)),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


@lru_cache(maxsize=2)
def _teaching(recipe: Recipe, features: bool) -> Teaching | None:
    """The teacher's answers, once a process."""
    training = training_data(recipe.data, 0, recipe.model.normalisation)
    device = pick_device(recipe.device)
    return make_teaching(recipe, training, device, progress=False, features=features)


@lru_cache(maxsize=2)
def validation_of(data: DataConfig, normalisation: Normalisation = IMAGENET) -> CocoDataset:
    """The images to evaluate on, decoded once a process."""
    return validation_data(data, normalisation)

"""Photographs: VOC2007's, with the published NanoDet-m as the teacher, and who learns from them.

On two cores a student from ImageNet weights stays poor; one that shares the teacher's backbone,
which has learnt to detect and learns no more, is a useful detector in minutes: pyramid and head are
what it learns.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.normalisation import NANODET
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies.common_starts import starts
from bckd.studies.label_files import (
    ANNOTATIONS,
    DATA,
    LABELLED,
    STUDENTS_SIDE,
    TRAIN,
    PseudoLabels,
    marked_file,
)
from bckd.studies.study import changed
from bckd.studies.validation_parts import judged_file
from bckd.system.precision import Precision

_LABEL_FILE = "data.train_annotations"
TEACHER = Path("nanodet_m")  # a published name
CLASSES = 20
IMAGES = 2800
# What students compute in: on a CPU that has it a step takes half the time of one in float32.
PRECISION: Precision = "bf16"
Student = Literal["mobilenet", "shared", "shared-narrow", "mobilenet-wide", "resnet18"]
# Images that have labels; the teacher speaks of all of them.
Labels = Literal["all", "tenth", "none"]
# Levels, anchors and bins of NanoDet-m: its locations and distributions are the students' too.
_AS_TEACHER = DetectorConfig(strides=(8, 16, 32), anchor_scale=5.0, reg_max=7)
_SHARED = replace(
    _AS_TEACHER,
    backbone="shufflenet_v2_x1_0",
    weights=str(TEACHER),
    leaky=True,
    frozen_stages=3,  # all
    normalisation=NANODET,
    channels=48,
    head_convs=1,
    head_groups=8,
)
MODELS_OF: dict[Student, DetectorConfig] = {
    "shared": _SHARED,
    "shared-narrow": replace(_SHARED, channels=24),
    "mobilenet": replace(
        _AS_TEACHER,
        backbone="mobilenet_v2",
        frozen_stages=4,  # up to the middle of C4: half the time of a step
        channels=48,
        head_convs=1,
        head_groups=8,
    ),
    "mobilenet-wide": replace(
        _AS_TEACHER,
        backbone="mobilenet_v2",
        frozen_stages=0,
        channels=96,
        head_convs=2,
        head_groups=16,
    ),
    "resnet18": replace(
        _AS_TEACHER, backbone="resnet18", channels=128, head_convs=2, head_groups=16
    ),
}
# Learning rate for a batch of 16, and the factor on it of the backbone.
RATES: dict[Student, tuple[float, float]] = {
    "mobilenet": (6e-3, 0.4),
    "shared": (3e-3, 1.0),
    "shared-narrow": (3e-3, 1.0),
    "mobilenet-wide": (1e-3, 1.0),
    "resnet18": (1e-3, 1.0),
}


def recipe(
    student: Student, side: int = STUDENTS_SIDE, labels: Labels = "all", **changes: Any
) -> Recipe:
    """How a student learns from the labels of the photographs.

    Args:
        side: of an image, the longer one, in pixels.
        labels: which of the images have any.
        changes: further fields of the recipe.
    """
    data = DataConfig(
        root=DATA,
        train_images=TRAIN,
        train_annotations=ANNOTATIONS if labels == "all" else marked_file(labels),
        val_images="val",
        val_annotations=judged_file(DATA, "comparison"),
        size=ImageSize(short_side=side, long_side=side),
        workers=0,
        cache=True,
    )
    rate, of_backbone = RATES[student]
    optimisation = Optimisation(
        optimizer="adamw",
        learning_rate=rate,
        backbone_rate=of_backbone,
        weight_decay=0.05,
        warmup_steps=100,
        schedule="cosine",
    )
    base = replace(PRESETS["scenes"].recipe, model=MODELS_OF[student], data=data)
    return replace(base, optimisation=optimisation, **({"precision": PRECISION} | changes))


def learning_from(labels: Labels, **settings: Any) -> dict[str, Any]:
    """Changes of a recipe by which it has pseudo-labels, made by these settings."""
    return {_LABEL_FILE: PseudoLabels(labels, **settings).annotations}


def labelled_alone(labels: Labels) -> dict[str, Any]:
    """Changes of a recipe by which it has the images with labels alone, and no others."""
    if labels == "all":
        return {}
    return {_LABEL_FILE: ANNOTATIONS, "data.first_train": LABELLED[labels]}


# Steps that the starts have behind them, early and late in turn; of a tenth of the labels, a third.
STEPS: dict[Student, tuple[int, int]] = {
    "mobilenet": (600, 1800),
    "shared": (300, 900),
    "shared-narrow": (300, 900),
}
START_COUNTS: dict[Student, int] = {"mobilenet": 6, "shared": 8, "shared-narrow": 8}
FRESH_STARTS = 12  # more of the shared students with all labels, that no choice was made on


def start_models(student: Student, labels: Labels = "all", fresh: int = 0) -> dict[str, Recipe]:
    """Students without distillation to go on from, by name, late ones first.

    They have seen no other labels than their regime has: with none, the teacher's boxes.

    Args:
        fresh: how many there are beyond those of the regime.
    """
    changes = labelled_alone(labels)
    if labels == "none":
        changes = learning_from(labels)
    early, late = (steps // (3 if labels == "tenth" else 1) for steps in STEPS[student])
    return {
        name: changed(
            recipe(student, labels=labels, steps=early if n % 2 else late, seed=900 + n), changes
        )
        for n, name in enumerate(start_names(student, labels, fresh))
    }


def start_names(student: Student, labels: Labels = "all", fresh: int = 0) -> tuple[str, ...]:
    """Of the models that a regime goes on from, and of that many fresh ones after them."""
    return starts(f"photographs-{student}{suffix_of(labels)}", START_COUNTS[student] + fresh)


def suffix_of(labels: Labels) -> str:
    return "" if labels == "all" else f"-{labels}"


MODELS: dict[str, Recipe] = {
    **start_models("mobilenet"),
    **start_models("shared", fresh=FRESH_STARTS),
    **start_models("shared-narrow"),
    **start_models("shared", "tenth"),
    **start_models("shared", "none"),
}

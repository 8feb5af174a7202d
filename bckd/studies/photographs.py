"""The studies on photographs: VOC2007's, with the published NanoDet-m as the teacher.

What is small enough for two cores is one grid, at 224 pixels, from common starts; a GPU takes
larger images, students that learn from ImageNet weights on, more methods and more seeds: the other
grid. On two cores a student from ImageNet weights stays poor; one that shares the teacher's
backbone, which has learnt to detect and learns no more, is a useful detector in minutes: pyramid
and head are what it learns. A sweep has seeds, starts and validation images of its own; that of
these students serves narrow ones and no labels too, and few labels in the first of their studies;
the others of few labels have sweeps of their own. CrossKD is not in them: its teacher's
head reads the student's maps, and NanoDet-m's heads are one a level, of another kind than the
students'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.normalisation import NANODET
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies.common_starts import going_on, starts
from bckd.studies.fine import UNSWEPT
from bckd.studies.label_files import (
    ANNOTATIONS,
    DATA,
    LABELLED,
    OTHER_THRESHOLDS,
    STUDENTS_SIDE,
    TRAIN,
    PseudoLabels,
    marked_file,
)
from bckd.studies.methods import PSEUDO
from bckd.studies.study import Method, Study, changed
from bckd.studies.validation_parts import judged_file
from bckd.system.precision import Precision

_LABEL_FILE = "data.train_annotations"
TEACHER = Path("nanodet_m")  # a published name
CLASSES = 20
IMAGES = 2800
# What two cores compare where all photographs have labels: both protocols, each with L_loc too, and
# one after the other; and where few or none have.
PROTOCOLS = ("none", "softmax", "BCKD", "softmax + L_loc", "softmax, then BCKD")
BARE = ("none", "softmax", "BCKD")  # with few labels and none, beside pseudo-labels
METHODS = (*PROTOCOLS, "L_cls", "YOLOv6", "MGD", "MGD + BCKD")
SCALES = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
SCALES_BELOW = (1 / 64, 1 / 256)  # of methods that are best at the smallest
WITHOUT_L_LOC = Method("BCKD without L_loc", {"binary": 1.0}, swept=False, scale_of="BCKD")
# Of few labels, where larger factors than with all may be best.
SWEPT_ANEW: dict[str, Any] = {
    "scales": (1 / 4, 1.0, 4.0, 16.0, 64.0),
    "scales_below": (1 / 16, 1 / 64),
}

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


def other_pseudo(labels: Labels) -> tuple[Method, ...]:
    """Pseudo-labels of other scores than those of `compared`."""
    return tuple(
        Method(f"{PSEUDO} from {threshold}", changes=_learning_from(labels, threshold=threshold))
        for threshold in OTHER_THRESHOLDS
    )


def _learning_from(labels: Labels, **settings: Any) -> dict[str, Any]:
    """Changes of a recipe by which it has pseudo-labels, made by these settings."""
    return {_LABEL_FILE: PseudoLabels(labels, **settings).annotations}


def with_pseudo(methods: Mapping[str, Method]) -> tuple[Method, ...]:
    """Both protocols beside pseudo-labels, without other labels; and pseudo-labels of the teacher
    as distillation hears it, on the students' images."""
    beside = tuple(
        Method(
            f"{name} + {PSEUDO}",
            methods[name].weights,
            _learning_from("none"),
            swept=False,
            scale_of=name,
        )
        for name in BARE[1:]
    )
    small = _learning_from("none", side=STUDENTS_SIDE)
    return (*beside, Method(f"{PSEUDO} at {STUDENTS_SIDE} pixels", changes=small))


def labelled_alone(labels: Labels) -> dict[str, Any]:
    """Changes of a recipe by which it has the images with labels alone, and no others."""
    if labels == "all":
        return {}
    return {_LABEL_FILE: ANNOTATIONS, "data.first_train": LABELLED[labels]}


def compared(methods: Sequence[Method], labels: Labels) -> tuple[Method, ...]:
    """What a regime compares: with labels for some images or none, pseudo-labels too.

    Args:
        methods: with published weights of 20 classes; "none" comes first.
    """
    none, *taught = methods
    if labels == "all":
        return (none, *taught)
    pseudo = Method(PSEUDO, changes=_learning_from(labels))
    if labels == "none":  # of which nobody learns without a teacher
        return (pseudo, *taught)
    return (replace(none, changes=labelled_alone(labels)), pseudo, *taught)


def regime(
    name: str,
    title: str,
    base: Recipe,
    methods: tuple[Method, ...],
    starts: tuple[str, ...] = (),
    **settings: Any,
) -> Study:
    """A study of the photographs, by default with a sweep of its own.

    Args:
        methods: see `compared`.
        starts: the models that students go on from; none: they start as the recipe says.
        settings: further fields of the study.
    """
    defaults: dict[str, Any] = {
        "seeds": (0, 1, 2, 3),
        "scales": SCALES,
        "sweep_seeds": (4, 5),
        "edge_seeds": (10, 11, 16, 17),  # of the same two starts
        "scales_below": SCALES_BELOW,
        "sweep_data": replace(base.data, val_annotations=judged_file(DATA, "sweep")),
        "starts": starts,
    }
    return Study(name, title, base, TEACHER, methods, **(defaults | settings))


# Steps that the starts have behind them, early and late in turn; of a tenth of the labels, a third.
STEPS: dict[Student, tuple[int, int]] = {
    "mobilenet": (600, 1800),
    "shared": (300, 900),
    "shared-narrow": (300, 900),
}
START_COUNTS: dict[Student, int] = {"mobilenet": 6, "shared": 8, "shared-narrow": 8}
FRESH_STARTS = 12  # more of the shared students with all labels, that no choice was made on
FRESH_SEEDS = tuple(range(24, 36))  # the first goes on from the first of them
SHORT = 300  # steps that students go on for


def start_models(student: Student, labels: Labels = "all", fresh: int = 0) -> dict[str, Recipe]:
    """Students without distillation to go on from, by name, late ones first.

    They have seen no other labels than their regime has: with none, the teacher's boxes.

    Args:
        fresh: how many there are beyond those of the regime.
    """
    changes = labelled_alone(labels)
    if labels == "none":
        changes = _learning_from(labels)
    early, late = (steps // (3 if labels == "tenth" else 1) for steps in STEPS[student])
    return {
        name: changed(
            recipe(student, labels=labels, steps=early if n % 2 else late, seed=900 + n), changes
        )
        for n, name in enumerate(start_names(student, labels, fresh))
    }


def start_names(student: Student, labels: Labels = "all", fresh: int = 0) -> tuple[str, ...]:
    """Of the models that a regime goes on from, and of that many fresh ones after them."""
    return starts(f"photographs-{student}{_suffix(labels)}", START_COUNTS[student] + fresh)


def _suffix(labels: Labels) -> str:
    return "" if labels == "all" else f"-{labels}"


MODELS: dict[str, Recipe] = {
    **start_models("mobilenet"),
    **start_models("shared", fresh=FRESH_STARTS),
    **start_models("shared-narrow"),
    **start_models("shared", "tenth"),
    **start_models("shared", "none"),
}


def studies(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """The grid for two cores: 224 pixels, going on from students that learnt without a teacher.

    Args:
        methods: by name, with published weights of 20 classes: all of `PROTOCOLS`.
    """
    poor = regime(
        "photographs",
        "photographs, 224 pixels, 300 more steps of a MobileNetV2",
        going_on(recipe("mobilenet"), SHORT),
        _on_two_cores(methods, "all"),
        start_names("mobilenet"),
    )
    return (poor, *_of_all_labels(methods), *_of_a_tenth(methods), *_of_no_labels(methods))


_SWEPT_BEFORE: dict[str, Any] = {**UNSWEPT, "scales_from": "photographs-shared"}


def _of_all_labels(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """Of both sizes; and the open claims asked again of students that nothing was done with."""
    return (
        _sharing(methods, "photographs", "shared", "all"),
        _sharing(methods, "photographs, narrow students", "shared-narrow", "all", **_SWEPT_BEFORE),
        _sharing(
            methods,
            "photographs, fresh students",
            "shared",
            "all",
            name="photographs-shared-confirm",
            methods=tuple(methods[name] for name in BARE),
            starts=start_names("shared", fresh=FRESH_STARTS)[-FRESH_STARTS:],
            seeds=FRESH_SEEDS,
            **_SWEPT_BEFORE,
        ),
    )


def _of_a_tenth(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """With weights swept elsewhere; then there, L_loc beside softmax KD, other pseudo-labels."""
    name = "photographs-shared-tenth"
    both = _on_two_cores(methods, "tenth")

    def beside(title: str, suffix: str, compared: tuple[Method, ...], **settings: Any) -> Study:
        """A study that shares runs of the swept one."""
        shared = {"shared": BARE, "shared_from": f"{name}-swept"} | settings
        own = {"name": f"{name}-{suffix}", "methods": compared}
        return _sharing(methods, title, "shared", "tenth", **own, **shared)

    return (
        _sharing(
            methods, "labels for a tenth of the photographs", "shared", "tenth", **_SWEPT_BEFORE
        ),
        beside(
            "the same, weights swept there",
            "swept",
            tuple(x for x in both if x.name != PSEUDO),
            **SWEPT_ANEW,
            shared=(PSEUDO,),
            shared_from=name,
        ),
        beside(
            "the same, softmax KD with L_loc", "boxes", (methods["softmax + L_loc"],), **SWEPT_ANEW
        ),
        beside(
            "the same, pseudo-labels of other scores",
            "thresholds",
            other_pseudo("tenth"),
            **_SWEPT_BEFORE,
        ),
    )


def _of_no_labels(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """The protocols; L_loc beside softmax KD, and out of BCKD; other pseudo-labels."""
    return (
        _sharing(methods, "photographs without labels", "shared", "none", **_SWEPT_BEFORE),
        _sharing(
            methods,
            "no labels, BCKD without L_loc and softmax KD with it",
            "shared",
            "none",
            name="photographs-shared-none-apart",
            methods=(methods["softmax + L_loc"], WITHOUT_L_LOC),
            shared=(PSEUDO, "softmax", "BCKD"),
            shared_from="photographs-shared-none",
            **_SWEPT_BEFORE,
        ),
        _sharing(
            methods,
            "no labels, pseudo-labels of other scores",
            "shared",
            "none",
            name="photographs-shared-none-thresholds",
            methods=other_pseudo("none"),
            shared=(PSEUDO, "softmax", "BCKD"),
            shared_from="photographs-shared-none",
            **_SWEPT_BEFORE,
        ),
        _sharing(
            methods,
            "no labels, both protocols beside pseudo-labels",
            "shared",
            "none",
            name="photographs-shared-none-pseudo",
            methods=with_pseudo(methods),
            shared=(PSEUDO, "softmax", "BCKD"),
            shared_from="photographs-shared-none",
            **_SWEPT_BEFORE,
        ),
    )


def _sharing(
    known: Mapping[str, Method], title: str, student: Student, labels: Labels, **settings: Any
) -> Study:
    """A regime of a student on the teacher's backbone: eight starts, six pairs.

    Args:
        settings: fields of the study that are other than those of its regime.
    """
    study = regime(
        f"photographs-{student}{_suffix(labels)}",
        f"{title}, 224 pixels, 300 more steps on the teacher's backbone",
        going_on(recipe(student, labels=labels), SHORT),
        _on_two_cores(known, labels),
        start_names(student, labels),
        seeds=(0, 1, 2, 3, 4, 5),
        sweep_seeds=(6, 7),
        edge_seeds=(14, 15, 22, 23),
    )
    return replace(study, **settings)


def _on_two_cores(methods: Mapping[str, Method], labels: Labels) -> tuple[Method, ...]:
    """What two cores compare."""
    names = PROTOCOLS if labels == "all" else BARE
    return compared([methods[name] for name in names], labels)


_EPOCHS = 12 * IMAGES // 16  # twelve epochs in steps


def gpu_studies(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """The grid for a GPU: 320 pixels, from ImageNet weights, twelve epochs, more of all.

    Args:
        methods: by name, with published weights of 20 classes: all of `METHODS`.
    """
    every = [methods[name] for name in METHODS]

    def study(student: Student, labels: Labels, title: str) -> Study:
        """A regime of a student, by its labels."""
        return regime(
            f"photographs-gpu-{student}{_suffix(labels)}",
            f"{title}, 320 pixels, {_EPOCHS} steps",
            recipe(student, 320, labels, steps=_EPOCHS, precision="auto"),
            compared(every, labels),
            seeds=tuple(range(6)),
            sweep_seeds=(100, 101),
            edge_seeds=(102, 103, 104, 105),
            device="cuda",
        )

    words: dict[Labels, str] = {
        "all": "photographs",
        "tenth": "labels for a tenth of the photographs",
        "none": "photographs without labels",
    }
    students: dict[Student, str] = {"mobilenet-wide": "a MobileNetV2", "resnet18": "a ResNet-18"}
    return tuple(
        study(student, labels, f"{text}, {name}")
        for student, name in students.items()
        for labels, text in words.items()
    )

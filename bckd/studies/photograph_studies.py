"""The studies on photographs.

What is small enough for two cores is one grid, at 224 pixels, from common starts; a GPU takes
larger images, students that learn from ImageNet weights on, more methods and more seeds: the other
grid. A sweep has seeds, starts and validation images of its own; that of students on the teacher's
backbone serves narrow ones and no labels too, and few labels in the first of their studies; the
others of few labels have sweeps of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bckd.recipes import Recipe
from bckd.studies.common_starts import going_on
from bckd.studies.fine import UNSWEPT
from bckd.studies.label_files import DATA
from bckd.studies.methods import PSEUDO
from bckd.studies.photograph_methods import (
    BARE,
    METHODS,
    PROTOCOLS,
    SMALL_PSEUDO,
    WITHOUT_L_LOC,
    compared,
    other_pseudo,
    with_pseudo,
)
from bckd.studies.photographs import (
    FRESH_STARTS,
    IMAGES,
    TEACHER,
    Labels,
    Student,
    recipe,
    start_names,
    suffix_of,
)
from bckd.studies.study import Method, Study
from bckd.studies.validation_parts import judged_file

SCALES = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
SCALES_BELOW = (1 / 64, 1 / 256)  # of methods that are best at the smallest
# Of few labels, where larger factors than with all may be best.
SWEPT_ANEW: dict[str, Any] = {
    "scales": (1 / 4, 1.0, 4.0, 16.0, 64.0),
    "scales_below": (1 / 16, 1 / 64),
}
FRESH_SEEDS = tuple(range(24, 36))  # the first goes on from the first of them
SHORT = 300  # steps that students go on for


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
        beside(
            "the same, both protocols beside pseudo-labels",
            "pseudo",
            with_pseudo(methods, "tenth"),
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
            methods=(*with_pseudo(methods, "none"), SMALL_PSEUDO),
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
        f"photographs-{student}{suffix_of(labels)}",
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
            f"photographs-gpu-{student}{suffix_of(labels)}",
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

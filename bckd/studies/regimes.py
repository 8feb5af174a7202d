"""The core methods by regime: classes, steps, starts, teachers; runs from seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS, SCENES_TEACHER
from bckd.studies.data_variants import labelled, twelve
from bckd.studies.methods import methods, only
from bckd.studies.study import Study

SCENES = PRESETS["scenes"][1]
SHORT = replace(SCENES, steps=300)

SCALES = (0.0625, 0.25, 1.0, 4.0, 16.0)
FEW = ("none", "softmax", "BCKD", "softmax + L_loc")
CORE = (*FEW, "L_cls")


def regime(name: str, title: str, base: Recipe, **settings: Any) -> Study:
    """A regime in which the core methods are compared; by default at the scales of "base".

    Methods that "base" has already run with the same recipe and seeds are `shared`.
    """
    defaults: dict[str, Any] = {
        "teacher": SCENES_TEACHER,
        "methods": only(6, *CORE),
        "seeds": (0, 1, 2),
        "scales_from": "base",
    }
    return Study(name, title, base, **(defaults | settings))


OWN_SWEEP = {"scales": SCALES, "sweep_seeds": (100,), "scales_from": None}
# Where the best factor of a method was the largest of these: wider for every method of the study.
WIDE_SWEEP = OWN_SWEEP | {"scales": (1 / 64, *SCALES, 64.0, 256.0, 1024.0)}

REGIMES = (
    Study(
        "base",
        "six classes, 1200 steps",
        SCENES,
        SCENES_TEACHER,
        tuple(methods(6).values()),
        seeds=(0, 1, 2, 3, 4),
        scales=SCALES,
        sweep_seeds=(100, 101),
        edge_seeds=(102, 103, 104, 105),
    ),
    regime(
        "four-classes",
        "four classes, look-alikes unlabelled",
        labelled(SCENES, "_four"),
        teacher="teacher-four",
        methods=only(4, *CORE),
        **OWN_SWEEP,
    ),
    regime(
        "steps-2400",
        "six classes, 2400 steps",
        replace(SCENES, steps=2400),
        methods=only(6, *FEW),
    ),
    regime(
        "steps-4800",
        "six classes, 4800 steps (two seeds)",
        replace(SCENES, steps=4800),
        methods=only(6, "BCKD", "softmax + L_loc"),
        seeds=(0, 1),
    ),
    regime(
        "steps-300",
        "six classes, 300 steps",
        SHORT,
    ),
    regime(
        "one-class",
        "one class, 300 steps",
        labelled(SHORT, "_one"),
        teacher="teacher-one",
        methods=only(1, "none", "L_cls", "L_loc", "BCKD"),
    ),
    regime(
        "one-class-1200",
        "one class, 1200 steps",
        labelled(SCENES, "_one"),
        teacher="teacher-one",
        methods=only(1, "none", "L_cls", "L_loc", "BCKD"),
        **OWN_SWEEP,
    ),
    regime(
        "twelve-classes",
        "twelve classes, 1200 steps",
        twelve(SCENES),
        teacher="teacher-twelve",
        methods=only(12, *CORE),
        **OWN_SWEEP,
    ),
    regime(
        "same-start",
        "300 more steps from a supervised student",
        SHORT,
        starts=("student",),
        methods=only(6, *FEW),
    ),
    regime(
        "same-start-1200",
        "1200 more steps from a supervised student",
        SCENES,
        starts=("student",),
        methods=only(6, *FEW),
    ),
    regime(
        "weak-teacher",
        "a teacher of 800 steps in place of 2000",
        SCENES,
        teacher="teacher-weak",
        methods=only(6, *FEW[1:]),
        shared=("none",),
    ),
)

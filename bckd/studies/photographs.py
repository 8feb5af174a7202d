"""The studies on photographs: VOC2007's, with the published NanoDet-m as the teacher.

What is small enough for two cores is one grid, at 224 pixels; a GPU takes larger images, students
that learn from ImageNet weights on, and more seeds: the other grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies.study import Method, Study

TEACHER = Path("nanodet_m")  # a published name
CLASSES = 20
IMAGES = 2800
LABELLED = {"all": None, "tenth": IMAGES // 10}  # images with labels, the first ones by id
METHODS = ("none", "softmax", "L_cls", "BCKD", "softmax + L_loc")
SCALES = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0)

Student = Literal["small", "mobilenet", "mobilenet-wide", "resnet18"]
Labels = Literal["all", "tenth"]

# Levels, anchors and bins of NanoDet-m: its locations and distributions are the students' too.
_AS_TEACHER = DetectorConfig(strides=(8, 16, 32), anchor_scale=5.0, reg_max=7)
MODELS_OF: dict[Student, DetectorConfig] = {
    "small": replace(
        _AS_TEACHER,
        backbone="small_resnet",
        pretrained=False,
        frozen_stages=0,
        norm_eval=False,
        width=16,
        channels=32,
        head_convs=2,
        head_groups=8,
    ),
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
    "small": (8e-3, 1.0),
    "mobilenet": (6e-3, 0.4),
    "mobilenet-wide": (1e-3, 1.0),
    "resnet18": (1e-3, 1.0),
}


def recipe(student: Student, side: int = 224, labels: Labels = "all", **changes: Any) -> Recipe:
    """How a student learns from the labels of the photographs.

    Args:
        side: of an image, the longer one, in pixels.
        labels: how many of the images have any, and are learnt from.
        changes: further fields of the recipe.
    """
    data = DataConfig(
        root=Path("data/voc2007"),
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(short_side=side, long_side=side),
        first_train=LABELLED[labels],
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
    return replace(base, optimisation=optimisation, **changes)


def regime(
    name: str,
    title: str,
    base: Recipe,
    methods: Mapping[str, Method],
    start: str | None = None,
    **settings: Any,
) -> Study:
    """A study of the photographs; by default with a sweep of its own, on four seeds.

    Args:
        methods: by name, with published weights of 20 classes.
        start: the model that students go on from; None: they start as the recipe says.
        settings: further fields of the study.
    """
    defaults: dict[str, Any] = {
        "seeds": (0, 1, 2, 3),
        "scales": SCALES,
        "sweep_seeds": (100,),
        "starts": () if start is None else (start,),
    }
    chosen = tuple(methods[method] for method in METHODS)
    return Study(name, title, base, TEACHER, chosen, **(defaults | settings))


def going_on(recipe: Recipe) -> Recipe:
    """A recipe of going on from a trained student: short, and the average of its weights judged."""
    optimisation = replace(recipe.optimisation, ema=0.99)
    return replace(recipe, optimisation=optimisation, steps=300)


# Students without distillation that those on two cores go on from.
MODELS: dict[str, Recipe] = {
    "photographs-small": recipe("small", steps=6000, seed=900),
    "photographs-mobilenet": recipe("mobilenet", steps=2500, seed=900),
    "photographs-mobilenet-tenth": recipe("mobilenet", labels="tenth", steps=600, seed=900),
}


def studies(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """The grid for two cores: 224 pixels, going on from students that learnt from labels alone."""
    return (
        regime(
            "photographs",
            "photographs, 224 pixels, 300 more steps of a MobileNetV2",
            going_on(recipe("mobilenet")),
            methods,
            "photographs-mobilenet",
        ),
        regime(
            "photographs-small",
            "photographs, 224 pixels, 300 more steps of a small ResNet",
            going_on(recipe("small")),
            methods,
            "photographs-small",
        ),
        regime(
            "photographs-tenth",
            "a tenth of the photographs, 224 pixels, 300 more steps of a MobileNetV2",
            going_on(recipe("mobilenet", labels="tenth")),
            methods,
            "photographs-mobilenet-tenth",
            scales=(),
            sweep_seeds=(),
            scales_from="photographs",
        ),
    )


_EPOCHS = 12 * IMAGES // 16  # twelve epochs in steps


def gpu_studies(methods: Mapping[str, Method]) -> tuple[Study, ...]:
    """The grid for a GPU: 320 pixels, from ImageNet weights, twelve epochs, more seeds."""

    def study(student: Student, labels: Labels, title: str) -> Study:
        return regime(
            f"photographs-gpu-{student}" + ("" if labels == "all" else f"-{labels}"),
            f"{title}, 320 pixels, {_EPOCHS} steps",
            recipe(student, 320, labels, steps=_EPOCHS, precision="auto"),
            methods,
            seeds=tuple(range(6)),
            sweep_seeds=(100, 101),
            device="cuda",
        )

    return (
        study("mobilenet-wide", "all", "photographs, a MobileNetV2"),
        study("mobilenet-wide", "tenth", "a tenth of the photographs, a MobileNetV2"),
        study("resnet18", "all", "photographs, a ResNet-18"),
        study("resnet18", "tenth", "a tenth of the photographs, a ResNet-18"),
    )

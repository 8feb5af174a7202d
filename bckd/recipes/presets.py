"""The named presets: recipes to train by, or to start from.

from dataclasses import replace
from bckd.recipes.presets import PRESETS
recipe = replace(PRESETS["scenes"].recipe, steps=200)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bckd.image_size import ImageSize
from bckd.losses.options import LossOptions
from bckd.models.detector import DetectorConfig
from bckd.models.heads import HeadName
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.recipes.loss_weights import LossWeights


def _coco(backbone: str, out: str, **model: Any) -> Recipe:
    return Recipe(
        model=DetectorConfig(backbone=backbone, **model),
        losses=LossOptions(crowd="background"),
        images_per_group=2,
        out=Path(out),
    )


# MobileNetV2 as mmdetection has it by default: nothing is frozen, every BatchNorm learns.
_MOBILENET = {"leaky": True, "frozen_stages": 0, "norm_eval": False}


def _teacher() -> Recipe:
    """The official recipe of GFL's published teacher: 24 epochs, images of several sizes."""
    recipe = _coco("resnet101", "runs/coco-r101-mstrain-2x")
    return replace(
        recipe, data=replace(recipe.data, multi_scale=(480, 800)), steps=2 * recipe.steps
    )


def _coco_head(head: HeadName) -> Recipe:
    """Another family's official 1x recipe on ResNet-50, with weights for its distillation.

    The nearest published weights of the two terms are CrossKD's (1 and 1, GIoU; for FCOS .4
    and .75, IoU). FCOS's ResNet is torchvision's here, Caffe's in the official recipe.
    """
    fixed = {"norm_learns": False} if head == "fcos" else {}
    recipe = _coco("resnet50", f"runs/coco-{head}-r50", head=head, **fixed)
    if head != "fcos":
        return replace(recipe, weights=LossWeights(binary=1.0, iou=1.0))
    optimisation = Optimisation(
        bias_rate=2.0, bias_decay=0.0, warmup="constant", warmup_start=1 / 3, clip_norm=35.0
    )
    return replace(
        recipe,
        weights=LossWeights(binary=0.4, iou=0.75),
        losses=replace(recipe.losses, iou_kind="iou"),
        optimisation=optimisation,
    )


SCENES_TEACHER = Path("data/weights/scenes_teacher.safetensors")

_SMALL = DetectorConfig(
    backbone="small_resnet",
    pretrained=False,
    frozen_stages=0,
    norm_eval=False,
    strides=(8, 16, 32),
    head_convs=2,
    reg_max=8,
    anchor_scale=3.0,
)
SCENES_TEACHER_MODEL = replace(_SMALL, width=32, channels=64, head_groups=8)
SCENES_STUDENT_MODEL = replace(_SMALL, width=8, channels=16, head_groups=4)

_SCENES = Recipe(
    model=SCENES_STUDENT_MODEL,
    data=DataConfig(
        root=Path("data/scenes"),
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(short_side=128, long_side=128),
        workers=0,
        cache=True,
    ),
    optimisation=Optimisation(
        optimizer="adamw",
        learning_rate=8e-3,
        weight_decay=0.05,
        warmup_steps=100,
        schedule="cosine",
    ),
    out=Path("runs/scenes"),
    steps=1200,
    precision="float32",
)

_CUSTOM_DATA = DataConfig(
    root=Path("data/custom"),
    train_images="train",
    train_annotations="annotations/instances_train.json",
    val_images="val",
    val_annotations="annotations/instances_val.json",
    workers=2,
)
_CUSTOM = Recipe(
    model=DetectorConfig(
        backbone="mobilenet_v2", frozen_stages=0, norm_eval=False, channels=96, head_convs=2
    ),
    data=_CUSTOM_DATA,
    optimisation=Optimisation(
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup_steps=100,
        schedule="cosine",
    ),
    out=Path("runs/custom"),
    fit=("size", "strides", "anchor_scale"),
    fit_pixels=640 * 640,
    steps=2000,
)

_CUSTOM_SMALL = replace(
    _SCENES,
    model=replace(SCENES_STUDENT_MODEL, strides=DetectorConfig.strides, anchor_scale=None),
    data=replace(_CUSTOM_DATA, workers=0),
    out=Path("runs/custom-small"),
    fit=("size", "strides", "anchor_scale", "steps", "cache"),
    steps=Recipe.steps,
)


class Preset(NamedTuple):
    """A recipe, and what it is for in words."""

    text: str
    recipe: Recipe


PRESETS: dict[str, Preset] = {
    "scenes": Preset("the embedded benchmark's student, 63 thousand parameters", _SCENES),
    "scenes-teacher": Preset(
        "the embedded benchmark's teacher, 0.9 million parameters",
        replace(
            _SCENES,
            model=SCENES_TEACHER_MODEL,
            optimisation=replace(_SCENES.optimisation, learning_rate=3e-3),
            out=Path("runs/scenes-teacher"),
            steps=2000,
        ),
    ),
    "custom-small": Preset("your own data on a CPU, in minutes: a small student", _CUSTOM_SMALL),
    "custom-small-teacher": Preset(
        "the same for its teacher, half a million parameters",
        replace(
            _CUSTOM_SMALL,
            model=replace(_CUSTOM_SMALL.model, width=24, channels=48, head_groups=8),
            optimisation=replace(_CUSTOM_SMALL.optimisation, learning_rate=3e-3),
            out=Path("runs/custom-small-teacher"),
        ),
    ),
    "custom": Preset("your own data on a GPU: a student from an ImageNet MobileNetV2", _CUSTOM),
    "custom-teacher": Preset(
        "the same for its teacher, from an ImageNet ResNet-50",
        replace(
            _CUSTOM,
            model=replace(_CUSTOM.model, backbone="resnet50", channels=256),
            out=Path("runs/custom-teacher"),
        ),
    ),
    "coco-r50": Preset(
        "official COCO recipe, ResNet-50 student", _coco("resnet50", "runs/coco-r50")
    ),
    "coco-r34": Preset(
        "official COCO recipe, ResNet-34 student", _coco("resnet34", "runs/coco-r34")
    ),
    "coco-r18": Preset(
        "official COCO recipe, ResNet-18 student", _coco("resnet18", "runs/coco-r18")
    ),
    "coco-r101": Preset(
        "official COCO recipe, ResNet-101 teacher", _coco("resnet101", "runs/coco-r101")
    ),
    "coco-r101-mstrain-2x": Preset(
        "the published teacher's recipe: ResNet-101, 24 epochs, multi-scale", _teacher()
    ),
    "coco-retinanet-r50": Preset("RetinaNet's 1x recipe, ResNet-50", _coco_head("retinanet")),
    "coco-fcos-r50": Preset("FCOS's 1x recipe, ResNet-50", _coco_head("fcos")),
    "coco-atss-r50": Preset("ATSS's 1x recipe, ResNet-50", _coco_head("atss")),
    "coco-mobilenetv2": Preset(
        "official COCO recipe, MobileNetV2 student with LeakyReLU",
        _coco("mobilenet_v2", "runs/coco-mobilenetv2", **_MOBILENET),
    ),
}

"""The data that studies train on beside the scenes as they are, as changes of a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bckd.image_size import ImageSize
from bckd.recipes import DataConfig, Recipe


def labelled(recipe: Recipe, suffix: str) -> Recipe:
    """The same pictures with other annotations."""
    data = replace(
        recipe.data,
        train_annotations=f"annotations/instances_train{suffix}.json",
        val_annotations=f"annotations/instances_val{suffix}.json",
    )
    return replace(recipe, data=data)


def fresh(recipe: Recipe) -> Recipe:
    """Evaluated on scenes that no choice was made on."""
    data = replace(
        recipe.data,
        val_images="../scenes-fresh/val",
        val_annotations="../scenes-fresh/annotations/instances_val.json",
    )
    return replace(recipe, data=data)


def twelve(recipe: Recipe) -> Recipe:
    """Scenes of twelve classes."""
    return replace(recipe, data=replace(recipe.data, root=Path("data/scenes12")))


def neu(recipe: Recipe) -> Recipe:
    """Photographs of steel, at 160 pixels, with four levels for their larger objects."""
    data = DataConfig(
        root=Path("data/neu_det"),
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(short_side=160, long_side=160),
        workers=0,
        cache=True,
    )
    model = replace(recipe.model, strides=(8, 16, 32, 64), anchor_scale=4.0)
    return replace(recipe, data=data, model=model)


def pretrained(recipe: Recipe) -> Recipe:
    """From ImageNet weights of MobileNetV2, at the learning rate of the preset "custom"."""
    model = replace(recipe.model, backbone="mobilenet_v2", pretrained=True)
    optimisation = replace(recipe.optimisation, learning_rate=1e-3)
    return replace(recipe, model=model, optimisation=optimisation)

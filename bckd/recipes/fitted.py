"""Settings that follow from the data: a recipe that leaves them open, in numbers.

Open is what is left at the default of `Recipe`, where `fit_pixels` is set: image size, strides,
anchor scale and steps. The rules are in `bckd.datasets.fitting`; those of steps and memory here.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bckd.datasets.annotations import Annotations
from bckd.datasets.fitting import fitting_anchor, fitting_size, fitting_strides
from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.recipes.recipe import Recipe

PASSES = 30  # over the images: of a small data set 20 to 50 are enough
STEPS = (300, 400)  # at least; at most, of images of `fit_pixels`: as many pixels in smaller ones
CACHED = 2**30  # bytes of decoded images and a teacher's answers, kept in memory at most
FINEST = 8  # stride of the finest level of every detector here


def fitted(recipe: Recipe, annotations: Annotations) -> Recipe:
    """The recipe with a number for all that it leaves open, chosen for these images and objects.

    Images that `data.cache` would keep in memory, and that are too many for it, are not kept.

    Args:
        annotations: of the images to train on; if they have no box to learn, it stays as it is.
    """
    if recipe.fit_pixels is None or not annotations.learnable_classes:
        return recipe
    size, model = recipe.data.size, recipe.model
    if _size_is_open(recipe):
        size = fitting_size(annotations, FINEST, recipe.fit_pixels)
    if model.anchor_scale is None:
        model = replace(model, anchor_scale=fitting_anchor(annotations, size, FINEST))
    if _strides_are_open(recipe):
        assert model.anchor_scale is not None
        strides = fitting_strides(annotations, size, FINEST, model.anchor_scale)
        model = replace(model, strides=strides)
    kept = _bytes_of_images(annotations)
    if recipe.teacher is not None:
        kept += _bytes_of_targets(model, size, annotations)
    cache = recipe.data.cache and kept <= CACHED
    steps = _steps(recipe, size, annotations) if _steps_are_open(recipe) else recipe.steps
    data = replace(recipe.data, size=size, cache=cache)
    return replace(recipe, data=data, model=model, steps=steps, fit_pixels=None)


def fitted_as(recipe: Recipe, other: Recipe, whole: bool = True) -> Recipe:
    """The recipe with what it leaves open as another has it, whose settings are numbers.

    Args:
        other: of the same run, as it began; or of its teacher, on the same data.
        whole: False: what the data decide of a run alone (steps, cache) stays open.
    """
    if recipe.fit_pixels is None:
        return recipe
    data, model = recipe.data, recipe.model
    if _size_is_open(recipe):
        data = replace(data, size=other.data.size)
    if model.anchor_scale is None:
        model = replace(model, anchor_scale=other.model.anchor_scale)
    if _strides_are_open(recipe):
        model = replace(model, strides=other.model.strides)
    recipe = replace(recipe, data=data, model=model)
    if not whole:
        return recipe
    steps = other.steps if _steps_are_open(recipe) else recipe.steps
    data = replace(data, cache=data.cache and other.data.cache)
    return replace(recipe, data=data, steps=steps, fit_pixels=None)


def fitted_to_nothing(recipe: Recipe) -> Recipe:
    """The recipe for square images of all the pixels that it allows, where no data are at hand."""
    if recipe.fit_pixels is None:
        return recipe
    size = recipe.data.size
    side = math.isqrt(recipe.fit_pixels) // size.pad_multiple * size.pad_multiple
    if _size_is_open(recipe):
        size = replace(size, short_side=side, long_side=side)
    return replace(recipe, data=replace(recipe.data, size=size), fit_pixels=None)


def changes_of_fit(before: Recipe, after: Recipe) -> str:
    """What was chosen for a recipe, in words."""
    size, model = after.data.size, after.model
    parts = [
        (before.data.size != size, f"images of {size.short_side} x {size.long_side} pixels"),
        (before.model.strides != model.strides, f"strides {_listed(model.strides)}"),
        (
            before.model.anchor_scale != model.anchor_scale,
            f"anchors {model.anchor_scale:g} strides wide",
        ),
        (before.steps != after.steps, f"{after.steps} steps"),
        (
            before.data.cache != after.data.cache,
            "images read anew in each epoch, as they would fill the memory",
        ),
    ]
    return ", ".join(words for changed, words in parts if changed)


def _size_is_open(recipe: Recipe) -> bool:
    return recipe.data.size == ImageSize()


def _strides_are_open(recipe: Recipe) -> bool:
    return recipe.model.strides == DetectorConfig.strides


def _steps_are_open(recipe: Recipe) -> bool:
    return recipe.epochs is None and recipe.steps == Recipe.steps


def _steps(recipe: Recipe, size: ImageSize, annotations: Annotations) -> int:
    assert recipe.fit_pixels is not None
    images = len(annotations.learnable_images)
    passes = math.ceil(PASSES * images / recipe.batch_size)
    smaller = recipe.fit_pixels / (size.padded(size.short_side) * size.padded(size.long_side))
    return min(max(passes, STEPS[0]), round(STEPS[1] * max(smaller, 1)))


def _bytes_of_images(annotations: Annotations) -> int:
    return sum(3 * image.width * image.height for image in annotations.images)


def _bytes_of_targets(model: DetectorConfig, size: ImageSize, annotations: Annotations) -> int:
    """What the teacher's answers take, which a cache keeps too (see `TeacherTargets`)."""
    area = size.padded(size.short_side) * size.padded(size.long_side)
    cells = sum(area // stride**2 for stride in model.strides)
    numbers = len(annotations.class_names) + 4 + 4 * (model.reg_max + 1)
    return 8 * cells * numbers * len(annotations.learnable_images)


def _listed(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))

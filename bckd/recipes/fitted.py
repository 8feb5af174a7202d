"""Settings that follow from the data: a recipe that leaves them open, in numbers.

Open is what `Recipe.fit` names and what is left at the default of `Recipe`. The rules are in
`bckd.datasets.fitting`; those of steps and memory here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from bckd.datasets.annotations import Annotations
from bckd.datasets.fitting import fitting_anchor, fitting_size, fitting_strides
from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.recipes.left_open import FIELDS, closed, open_settings, without_fit
from bckd.recipes.recipe import Fittable, Recipe

PASSES = 30  # over the images: of a small data set 20 to 50 are enough
STEPS = (300, 400)  # at least; at most, of images of `fit_pixels`: as many pixels in smaller ones
CACHED = 2**30  # bytes of decoded images and a teacher's answers, kept in memory at most
FINEST = 8  # stride of the finest level of every detector here


def fitted(recipe: Recipe, annotations: Annotations) -> Recipe:
    """The recipe with a value for all that it leaves open, chosen for these images and objects.

    Args:
        annotations: of the images to train on; if there are none, it stays as it is. Where no
            box says how large objects are, strides and anchors are the family's own.
    """
    if not recipe.fit or not annotations.training_images:
        return recipe
    data, model, steps = recipe.data, recipe.model, recipe.steps
    is_open = open_settings(recipe)
    if "size" in is_open:
        data = replace(data, size=fitting_size(annotations, FINEST, recipe.fit_pixels))
    boxed = bool(annotations.learnable_classes)
    if boxed and "anchor_scale" in is_open:
        model = replace(model, anchor_scale=fitting_anchor(annotations, data.size, FINEST))
    if boxed and "strides" in is_open:
        scale = model.resolved().anchor_scale
        assert scale is not None  # it is resolved
        strides = fitting_strides(annotations, data.size, FINEST, scale)
        model = replace(model, strides=strides)
    if "cache" in is_open:
        kept = _bytes_of_images(annotations)
        if recipe.teacher is not None:
            kept += _bytes_of_targets(model, data.size, annotations)
        data = replace(data, cache=kept <= CACHED)
    if "steps" in is_open:
        steps = _steps(recipe, data.size, annotations)
    return closed(replace(recipe, data=data, model=model, steps=steps))


def fitted_as(recipe: Recipe, other: Recipe, names: Iterable[Fittable] = FIELDS) -> Recipe:
    """The recipe with what it leaves open as another has it.

    Args:
        other: of the same run, as it began; or of its teacher, on the same data.
        names: of what is taken over; the rest stays open.
    """
    data, model, steps = recipe.data, recipe.model, recipe.steps
    taken = open_settings(recipe) & set(names)
    if "size" in taken:
        data = replace(data, size=other.data.size)
    if "anchor_scale" in taken:
        model = replace(model, anchor_scale=other.model.anchor_scale)
    if "strides" in taken:
        model = replace(model, strides=other.model.strides)
    if "cache" in taken:
        data = replace(data, cache=other.data.cache)
    if "steps" in taken:
        steps = other.steps
    recipe = replace(recipe, data=data, model=model, steps=steps)
    return without_fit(recipe, names)


def fitted_to_nothing(recipe: Recipe) -> Recipe:
    """The recipe for square images of all the pixels that it allows, where no data are at hand."""
    if not recipe.fit:
        return recipe
    size = recipe.data.size
    side = math.isqrt(recipe.fit_pixels) // size.pad_multiple * size.pad_multiple
    if "size" in open_settings(recipe):
        size = replace(size, short_side=side, long_side=side)
    return closed(replace(recipe, data=replace(recipe.data, size=size)))


def choice(before: Recipe, after: Recipe) -> str:
    """What was chosen for a recipe, in words."""
    size, model = after.data.size, after.model
    scale = model.anchor_scale
    words: dict[Fittable, str] = {
        "size": f"images of at most {size.short_side} x {size.long_side} pixels",
        "strides": f"strides {' '.join(map(str, model.strides))}",
        "anchor_scale": "" if scale is None else f"anchors {scale:g} strides wide",
        "steps": f"{after.steps} steps",
        "cache": f"images {'kept in memory' if after.data.cache else 'read anew in each epoch'}",
    }
    is_open = open_settings(before)
    return ", ".join(text for name, text in words.items() if name in is_open and text)


def _steps(recipe: Recipe, size: ImageSize, annotations: Annotations) -> int:
    images = len(annotations.training_images)
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
    return 8 * cells * numbers * len(annotations.training_images)

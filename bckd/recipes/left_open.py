"""What of a recipe is left open for the data to choose (see `bckd.recipes.fitted`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.recipes.recipe import Fittable, Recipe

# The field of each, by its dotted name.
FIELDS: dict[Fittable, str] = {
    "size": "data.size",
    "strides": "model.strides",
    "anchor_scale": "model.anchor_scale",
    "steps": "steps",
    "cache": "data.cache",
}


def open_settings(recipe: Recipe) -> set[Fittable]:
    """What of a recipe the data will choose."""
    as_official: dict[Fittable, bool] = {
        "size": recipe.data.size == ImageSize(),
        "strides": recipe.model.strides == DetectorConfig.strides,
        "anchor_scale": recipe.model.anchor_scale is None,
        "steps": recipe.epochs is None and recipe.steps == Recipe.steps,
        "cache": not recipe.data.cache,
    }
    return {name for name in recipe.fit if as_official[name]}


def without_fit(recipe: Recipe, names: Iterable[Fittable]) -> Recipe:
    """The recipe with these settings as they stand, whatever the data."""
    left = tuple(name for name in recipe.fit if name not in set(names))
    return replace(recipe, fit=left) if left else closed(recipe)


def closed(recipe: Recipe) -> Recipe:
    """The recipe as it stands, whatever the data."""
    return replace(recipe, fit=(), fit_pixels=Recipe.fit_pixels)

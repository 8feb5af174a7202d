"""What a recipe leaves to the data, decided once, at the start of its run."""

from __future__ import annotations

from dataclasses import replace

from bckd.datasets.annotations import Annotations
from bckd.recipes import Recipe
from bckd.recipes.fitted import choice, fitted, fitted_as
from bckd.recipes.recipe import Fittable
from bckd.system.telling import tell
from bckd.training.recipe_check import check_recipe
from bckd.training.recorded import recorded_recipe

# What of a run a student takes over from its teacher: how it sees the images.
SEEN: tuple[Fittable, ...] = ("size", "strides", "anchor_scale")


def settled(recipe: Recipe, annotations: Annotations, resume: bool, taught: bool) -> Recipe:
    """The recipe with a value for all that it leaves to its family, and to the data.

    What the data decide is in `bckd.recipes.fitted`. A run that goes on keeps what it began with. A
    student sees the images as its teacher does, where that is a run.

    Args:
        annotations: of the images to train on.
        taught: whether there is a teacher.

    Raises:
        InputError: with these numbers it is no recipe.
    """
    recipe = _settled(recipe, annotations, resume, taught)
    return replace(recipe, model=recipe.model.resolved())


def _settled(recipe: Recipe, annotations: Annotations, resume: bool, taught: bool) -> Recipe:
    if not recipe.fit or not annotations.training_images:
        return recipe
    began = recorded_recipe(recipe.out) if resume else None
    if began is not None:
        return check_recipe(fitted_as(recipe, began), taught)
    teacher = None if recipe.teacher is None else recorded_recipe(recipe.teacher)
    known = recipe if teacher is None else fitted_as(recipe, teacher, SEEN)
    chosen = fitted(known, annotations)
    whose = "as its teacher's and by the data" if teacher is not None else "by the data"
    if words := choice(recipe, chosen):
        tell(f"chosen {whose}: {words} (an option sets another)")
    return check_recipe(chosen, taught)

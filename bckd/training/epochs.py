"""Lengths of a run that its recipe gives in epochs, in steps."""

from __future__ import annotations

from dataclasses import replace

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset
from bckd.recipes import Recipe
from bckd.system.telling import tell


def in_steps(recipe: Recipe, training: CocoDataset) -> Recipe:
    """The same run with all its lengths in steps, which is what it records of itself.

    An epoch has as many steps as it takes to see every image once (see `TrainingBatches`).
    """
    if recipe.epochs is None and recipe.evaluate_epochs is None:
        return recipe
    epoch = TrainingBatches(training.images, recipe.batch_size, recipe.seed, 0, 0).per_epoch
    if recipe.epochs is not None:
        steps = recipe.epochs * epoch
        tell(
            f"{recipe.epochs} epochs of {len(training)} images, {recipe.batch_size} a step, are "
            f"{steps} steps"
        )
        recipe = replace(recipe, steps=steps, epochs=None)
    if recipe.evaluate_epochs is not None:
        every = recipe.evaluate_epochs * epoch
        recipe = replace(recipe, evaluate_every=every, evaluate_epochs=None)
    return recipe

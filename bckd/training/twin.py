"""A student and its twin, which learns the same without a teacher: what distillation brings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bckd.losses.terms import TERMS
from bckd.recipes import Recipe
from bckd.recipes.fitted import fitted_as
from bckd.system.device import pick_device
from bckd.system.distributed import own_device, processes_joined
from bckd.system.errors import InputError
from bckd.system.telling import each_once
from bckd.training.data import training_annotations
from bckd.training.recipe_check import check_recipe
from bckd.training.recorded import recipe_of
from bckd.training.resuming import check_free
from bckd.training.trainer import RunResult, train


@dataclass(frozen=True)
class Twins:
    """The two runs."""

    distilled: RunResult
    alone: RunResult

    @property
    def gain(self) -> float:
        """By how much the AP of the distilled student is higher, of one seed."""
        return self.distilled.metrics.AP - self.alone.metrics.AP

    def __repr__(self) -> str:
        return f"Twins(distilled={self.distilled}, alone={self.alone}, gain {self.gain:+.3f})"


def train_with_twin(recipe: Recipe, resume: bool = False, progress: bool = True) -> Twins:
    """Train the recipe's student, then its twin, which has the folder `twin_folder(recipe.out)`.

    The two differ in distillation alone: of one seed they have the same initial weights and see
    the same images in the same order.

    Args:
        resume, progress: as of `train`; of two runs each goes on where it stopped.

    Raises:
        InputError: as `train`, for either; or there is no teacher, or a twin can't do without.
    """
    recipe = check_recipe(recipe)
    twin = twin_of(recipe)
    if not resume:
        for each in (recipe, twin):
            check_free(each.out)
    with processes_joined(pick_device(own_device(recipe.device))), each_once():
        training_annotations(twin.data, taught=False)  # refused now, not after the first run
        distilled = train(recipe, resume, progress)
        twin = fitted_as(twin, recipe_of(recipe.out))
        return Twins(distilled, train(twin, resume, progress))


def twin_of(recipe: Recipe) -> Recipe:
    """The recipe without its teacher and without distillation.

    Raises:
        InputError: it has no teacher; or the student starts from what the teacher has learnt.
    """
    if recipe.teacher is None:
        raise InputError("a twin is the student without its teacher, and none is named (--teacher)")
    if recipe.inherit:
        raise InputError(
            "inherit is true; expected false beside a twin, which has no teacher to inherit from: "
            "the two would differ in more than distillation"
        )
    return replace(
        recipe,
        teacher=None,
        teacher_classes=(),
        teacher_precision=None,
        terms=(),
        weights=replace(recipe.weights, **dict.fromkeys(TERMS, 0.0)),
        out=twin_folder(recipe.out),
    )


def twin_folder(out: Path) -> Path:
    """The folder of the twin of a run: beside it, `-alone` behind its name."""
    return out.with_name(f"{out.name}-alone")

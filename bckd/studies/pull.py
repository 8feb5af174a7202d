"""Methods brought to equal pull: what their weights are multiplied by.

Ablations that change the shape of a term (a weight that is detached or not, an exponent, a kind of
IoU, a gate, a temperature) change its size too. At equal share of the gradient they compare shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from bckd.evaluation.gradient_shares import pull_of_terms, pulled_parameters
from bckd.models.grouped import statistics_kept
from bckd.recipes import Recipe
from bckd.studies.study import Method, changed, terms_of, weights_of
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.training.build_terms import build_own_terms
from bckd.training.data import training_annotations, training_data
from bckd.training.epochs import in_steps
from bckd.training.loading import batches_of
from bckd.training.recipe_check import check_recipe
from bckd.training.settling import settled
from bckd.training.student import build_student
from bckd.training.teacher import load_teacher, ready_teacher
from bckd.training.terms import compute_terms, supervision_of, term_weights

BATCHES = 8  # the first of the run


@dataclass(frozen=True)
class Pull:
    """How much a student is pulled at, as `pull_of_terms` measures it: means over batches.

    Attributes:
        labels: the sum over its losses from labels.
        distilled: the sum over its distillation terms.
    """

    labels: float
    distilled: float

    @property
    def share(self) -> float:
        """The distillation's part of the whole."""
        return self.distilled / (self.labels + self.distilled)


def weights_of_equal_pull(
    recipe: Recipe, methods: Sequence[Method], share: float, batches: int = BATCHES
) -> dict[str, float]:
    """The factor on each method's weights at which its distillation has a given share of the pull.

    It is measured where the run begins: on the student that it starts from and its first batches,
    with all terms that take part at some time, in float32. The factor is the `scale` of a study's
    cell, and what `weights_of` and `terms_of` take.

    Args:
        recipe: of the runs, with `start` and `teacher`.
        methods: weights of the terms, and changes of the recipe. One without distillation is left
            out; a teacher of its own is a file.
        share: the wanted one, between 0 and 1.
        batches: how many.

    Returns:
        Factors by the methods' names.

    Raises:
        InputError: the share is none, a method's distillation pulls nowhere, or no loss from labels
            does; or the recipe is not what it should be.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}; expected one between 0 and 1")
    factors = {}
    for method in methods:
        if method.distils:
            pull = pull_of_method(recipe, method, batches=batches)
            for what, size in (
                ("distillation", pull.distilled),
                ("losses from labels", pull.labels),
            ):
                if not size > 0:
                    raise InputError(
                        f"method {method.name}: its {what} pull by {size} on the first batches; "
                        f"expected more than 0, for a share of {share}"
                    )
            factors[method.name] = share / (1 - share) * pull.labels / pull.distilled
    return factors


def pull_of_method(
    recipe: Recipe, method: Method, scale: float = 1.0, batches: int = BATCHES
) -> Pull:
    """How much a method's student is pulled at where its run begins, weights times `scale`.

    Args:
        recipe, batches: as `weights_of_equal_pull` takes them, and raises.
    """
    recipe = replace(
        recipe,
        weights=weights_of(method, scale, recipe.weights),
        terms=terms_of(method, scale),
        teacher=recipe.teacher if method.teacher is None else Path(method.teacher),
        steps=max(recipe.steps, batches),
        precision="float32",
        teacher_precision=None,
        compile=False,
    )
    if recipe.teacher is None:
        raise InputError("teacher is None; expected the weights of one, to distil from")
    recipe = changed(recipe, method.changes)
    recipe = replace(recipe, losses=replace(recipe.losses, softmax_until=1.0, binary_from=0.0))
    sums = {True: 0.0, False: 0.0}  # of losses from labels, and of the others
    for labels, pull in _pulls(check_recipe(recipe), batches):
        for name, size in pull.items():
            sums[name in labels] += size.item() / batches
    return Pull(labels=sums[True], distilled=sums[False])


def _pulls(recipe: Recipe, batches: int) -> Iterator[tuple[set[str], dict[str, Tensor]]]:
    """The names of the losses from labels, and each term's pull, batch by batch."""
    device = pick_device(recipe.device)
    annotations = training_annotations(recipe.data)
    recipe = settled(recipe, annotations, resume=False, taught=True)
    training = training_data(recipe.data, recipe.seed, recipe.model.normalisation, annotations)
    recipe = in_steps(recipe, training)
    names = annotations.class_names
    unlearnt = annotations.idle_classes
    student = build_student(recipe, names, dispensable=unlearnt).to(device)
    teacher = load_teacher(recipe, names, device, unlearnt, student.strides)
    own = build_own_terms(recipe, student, teacher, None, training).to(device)
    assert teacher is not None  # as checked before
    teaching = ready_teacher(teacher.detector, recipe)
    supervision, parameters = supervision_of(student, recipe), pulled_parameters(student)
    weights = term_weights(recipe, supervision, 0)
    network = student.train().to(memory_format=torch.channels_last)
    with closing(batches_of(recipe, training, 0, pinned=False)) as loaded:
        for batch in islice(loaded, batches):
            with statistics_kept(network):
                terms = compute_terms(
                    network, teaching, batch.to(device), recipe, recipe.weights, own=own
                )
            weighted = {name: weights[name] * x for name, x in terms.values.items()}
            yield {*supervision.terms}, pull_of_terms(weighted, parameters)

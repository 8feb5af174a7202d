"""What a student minimises: the loss terms of a batch by their name, and their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bckd.assigners import AssignmentRules
from bckd.correspondence import compared
from bckd.losses.options import LossOptions
from bckd.losses.terms import TERMS, Need
from bckd.models.grouped import forward_in_groups
from bckd.models.heads import HEADS, HeadName
from bckd.recipes import Recipe
from bckd.recipes.loss_weights import LossWeights
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth
from bckd.system.precision import computing_in
from bckd.teachers.stand_ins import with_stand_ins
from bckd.teachers.targets import Teaching
from bckd.training.own_terms import named_terms


def loss_terms(
    head: HeadName,
    student: DenseOutput,
    teacher: DenseOutput | None,
    assignment: Assignment,
    weights: LossWeights,
    options: LossOptions,
) -> dict[str, Tensor]:
    """Unweighted terms of a batch by their name in `LossWeights`, of a student of that family.

    No distillation term of weight 0 is computed.
    """
    terms = HEADS[head].losses(student, assignment, options)
    if teacher is not None:
        pair = compared(student, teacher, assignment)
        terms |= distillation_terms(*pair, None, weights, options)
    return terms


def distillation_terms(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    batch: Batch | None,
    weights: LossWeights,
    options: LossOptions,
) -> dict[str, Tensor]:
    """Unweighted distillation terms by their name, of a pair that is comparable.

    None of weight 0, and none with adapters: these are modules (`OwnTerms`).

    Args:
        batch: None where no term looks at it.
    """
    return {
        name: term.make(options)(student, teacher, assignment, batch)
        for name, term in TERMS.items()
        if term.make is not None and getattr(weights, name) != 0
    }


def weights_at(recipe: Recipe, step: int) -> LossWeights:
    """The weights of the loss terms at a step: a term outside its part of the run has weight 0."""
    done, weights, options = step / recipe.steps, recipe.weights, recipe.losses
    if done >= options.softmax_until:
        weights = replace(weights, softmax=0.0)
    if done < options.binary_from:
        weights = replace(weights, binary=0.0)
    return weights


@dataclass(frozen=True)
class Terms:
    """Unweighted loss terms of a batch, and what they were computed from.

    The assignment is that of distillation, if there is any: beside the labels it has what the
    teacher finds on images without.
    """

    values: dict[str, Tensor]
    output: DenseOutput
    assignment: Assignment


def compute_terms(
    student: Callable[[Tensor], DenseOutput],
    teaching: Teaching | None,
    batch: Batch,
    recipe: Recipe,
    weights: LossWeights,
    autocast: torch.dtype | None = None,
    own: nn.Module | None = None,
    output: DenseOutput | None = None,
) -> Terms:
    """Forward passes, assignment and unweighted loss terms of one batch.

    Images without labels take part in distillation alone, where what the teacher finds stands in
    (see `bckd.teachers.stand_ins`).

    Args:
        student: the detector, or one wrapped for many processes.
        weights: at this step; terms of weight 0 are not computed.
        autocast: what the networks compute in; None: float32.
        own: the recipe's own terms (`OwnTerms`), or these wrapped for many processes.
        output: what the student says of the batch, where it was asked before.
    """
    if output is None:
        output = answer(student, batch, recipe, autocast)
    target = None if teaching is None else teaching(batch)
    supervision = supervision_of(student, recipe)
    rules = assignment_rules(recipe, None if teaching is None else weights)
    truth = batch.ground_truth
    if target is not None and truth.labelled is not None:
        batch = replace(batch, ground_truth=with_stand_ins(truth, target, batch.sizes))
    distilled = None if batch.ground_truth is truth else batch.ground_truth
    given = truth, distilled, batch.padded_sizes
    compute = _compiled() if recipe.compile else _from_outputs
    terms = compute(output, target, *given, supervision, rules, weights, recipe.losses)
    if own is not None and target is not None:
        terms.values.update(own(*compared(output, target, terms.assignment), batch))
    return terms


def answer(
    student: Callable[[Tensor], DenseOutput],
    batch: Batch,
    recipe: Recipe,
    autocast: torch.dtype | None,
    share: tuple[int, int] = (0, 1),
) -> DenseOutput:
    """What a student says of a batch, or of a part of one (see `forward_in_groups`)."""
    groups = recipe.images_per_group
    with computing_in(autocast, batch.pixels.device):
        return forward_in_groups(student, batch.images, batch.canvases, groups, share)


def _from_outputs(
    output: DenseOutput,
    target: DenseOutput | None,
    ground_truth: GroundTruth,
    distilled: GroundTruth | None,
    padded_sizes: Tensor,
    supervision: Any,
    rules: AssignmentRules,
    weights: LossWeights,
    options: LossOptions,
) -> Terms:
    """The terms of a batch from what student and teacher say of it, without a recipe's own.

    Args:
        ground_truth: what is learnt from.
        distilled: by what it is distilled; None: by the same.
    """
    output = output.keeping_scores()
    assignment = supervision.assign(output, ground_truth, padded_sizes, rules)
    values = dict(supervision.losses(output, assignment, options))
    if distilled is not None:
        assignment = supervision.assign(output, distilled, padded_sizes, rules)
    if target is not None:
        pair = compared(output, target, assignment)
        values |= distillation_terms(*pair, None, weights, options)
    return Terms(values, output, assignment)


@cache
def _compiled() -> Callable[..., Terms]:
    return torch.compile(_from_outputs)


def supervision_of(student: Callable[..., DenseOutput], recipe: Recipe) -> Any:
    """What a student learns from labels: its own `supervision`, else the recipe's family.

    Returns:
        An object with `assign`, `losses` and `terms`, as `bckd.models.heads.head.Head` has them.
    """
    alone = getattr(student, "_orig_mod", student)  # of one that is compiled
    alone = alone.module if isinstance(alone, DistributedDataParallel) else alone
    return getattr(alone, "supervision", None) or HEADS[recipe.model.head]


def assignment_rules(recipe: Recipe, weights: LossWeights | None) -> AssignmentRules:
    """How batches are assigned; with the valuable region where a term of some weight needs it.

    Args:
        weights: None where nothing is distilled.
    """
    needed = weights is not None and any(
        "region" in needs for _, needs in needs_of_terms(recipe, weights)
    )
    region = recipe.losses.ld_region_kind if needed else None
    return AssignmentRules(region, recipe.losses.crowd, recipe.images_per_group)


def needs_of_terms(recipe: Recipe, weights: LossWeights) -> list[tuple[str, tuple[Need, ...]]]:
    """What each distillation term of a weight above 0 needs, by its name."""
    ours = [(name, term.needs) for name, term in TERMS.items() if getattr(weights, name) != 0]
    own = [(term.name, term.needs) for term in named_terms(recipe.terms) if term.weight != 0]
    return ours + own


def term_weights(recipe: Recipe, supervision: Any, step: int) -> dict[str, float]:
    """The weight of every term at a step by its name; the recipe's say before a family's own."""
    official = {name: term.weight for name, term in supervision.terms.items()}
    own = {term.name: term.weight for term in named_terms(recipe.terms)}
    return official | asdict(weights_at(recipe, step)) | own

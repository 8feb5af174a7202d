"""What a student minimises: the loss terms of a batch by their name, and their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bckd.correspondence import compared
from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.models.detector import HeadName
from bckd.models.grouped import forward_in_groups
from bckd.models.supervision import assign, supervised_losses
from bckd.precision import computing_in
from bckd.recipes import LossOptions, LossWeights, Recipe
from bckd.structures import Assignment, Batch, DenseOutput
from bckd.teachers.targets import Teaching


def loss_terms(
    head: HeadName,
    student: DenseOutput,
    teacher: DenseOutput | None,
    assignment: Assignment,
    weights: LossWeights,
    options: LossOptions,
) -> dict[str, Tensor]:
    """Unweighted terms by their name in `LossWeights`; no distillation term of weight 0."""
    terms = supervised_losses(head, student, assignment, options.divisor)
    if teacher is None:
        return terms
    pair = compared(student, teacher, assignment)
    gate = options.gate_levels
    distillation = {
        "binary": partial(
            binary_classification,
            beta=options.binary_beta,
            detach_weight=options.binary_detach,
            gate_levels=gate,
        ),
        "iou": partial(
            iou_localisation,
            kind=options.iou_kind,
            weighting=options.iou_weighting,
            gate_levels=gate,
        ),
        "softmax": partial(
            softmax_classification,
            temperature=options.softmax_temperature,
            places=options.softmax_places,
            gate_levels=gate,
        ),
        "ld": partial(localisation_distribution, temperature=options.ld_temperature),
        "ld_region": partial(
            localisation_distribution, temperature=options.ld_temperature, places="region"
        ),
    }
    for name, term in distillation.items():
        if getattr(weights, name) != 0:
            terms[name] = term(*pair)
    return terms


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
    """Unweighted loss terms of a batch, and what they were computed from."""

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
) -> Terms:
    """Forward passes, assignment and unweighted loss terms of one batch.

    Args:
        student: the detector, or one wrapped for many processes.
        autocast: what the networks compute in; None: float32.
    """
    with computing_in(autocast, batch.images.device):
        output = forward_in_groups(student, batch.images, batch.canvases, recipe.images_per_group)
        with torch.no_grad():
            target = None if teaching is None else teaching(batch)
    needs_region = teaching is not None and weights.ld_region != 0
    head = recipe.model.head
    region = recipe.losses.ld_region_kind if needs_region else None
    assignment = assign(
        head,
        output,
        batch.ground_truth,
        batch.padded_sizes,
        region,
        recipe.losses.crowd,
        recipe.images_per_group,
    )
    values = loss_terms(head, output, target, assignment, weights, recipe.losses)
    return Terms(values, output, assignment)

"""The terms that have to be built, of what student and teacher say of one image."""

from __future__ import annotations

import torch

from bckd.correspondence import compared
from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.models.heads import HEADS
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.teachers.heads import CrossedHeads, head_of
from bckd.teachers.targets import Teaching, live_teaching
from bckd.training.needs import check_needs
from bckd.training.own_terms import OwnTerms, named_terms, terms_with_adapters
from bckd.training.terms import assignment_rules, needs_of_terms, supervision_of
from bckd.zoo.checkpoints import Checkpoint


@torch.no_grad()
def build_own_terms(
    recipe: Recipe,
    student: DenseDetector,
    teacher: Checkpoint | None,
    teaching: Teaching | None,
    training: CocoDataset,
) -> OwnTerms:
    """The recipe's own terms and those with adapters; what all need is checked on the first image.

    Args:
        teaching: what the teacher says, where the caller has that already; then `teacher` is
            there where a term needs its head, and perhaps else.

    Raises:
        InputError: student or teacher lacks what a term needs.
    """
    needs = needs_of_terms(recipe, recipe.weights)
    answer = teaching
    if answer is None and teacher is not None:
        answer = live_teaching(teacher.detector)
    if answer is None or not (recipe.terms or any(x for _, x in needs)):
        return OwnTerms(())
    device = next(student.parameters()).device
    batch = training.batch([0]).to(device)
    pair = student.eval()(batch.images), answer(batch)
    rules = assignment_rules(recipe, recipe.weights)
    supervision = supervision_of(student, recipe)
    assignment = supervision.assign(pair[0], batch.ground_truth, batch.padded_sizes, rules)
    check_needs(needs, *pair, assignment)
    crossing = next((name for name, needed in needs if "head" in needed), None)
    heads = None if crossing is None else crossed_heads(crossing, student, teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        terms = (*terms_with_adapters(recipe.weights), *named_terms(recipe.terms))
        return OwnTerms(terms, *compared(*pair, assignment)[:2], heads=heads)


def needs_head(recipe: Recipe) -> bool:
    """Whether a term needs the teacher itself, for its head, beside what it says."""
    return any("head" in needs for _, needs in needs_of_terms(recipe, recipe.weights))


def crossed_heads(name: str, student: DenseDetector, teacher: Checkpoint | None) -> CrossedHeads:
    """The heads of both for the term of that name.

    Raises:
        InputError: there is no teacher but what it says, or one of both has no such head.
    """
    if teacher is None:
        raise InputError(f"term {name} needs the teacher's head; expected `teacher` in the recipe")
    pair = {"student": student, "teacher": teacher.detector}
    strange = next((who for who, detector in pair.items() if head_of(detector) is None), None)
    if strange is not None:
        raise InputError(
            f"term {name} needs a head of two towers of both detectors; the {strange} has none "
            f"(bckd's own families have them: {', '.join(HEADS)})"
        )
    return CrossedHeads(student, teacher.detector)

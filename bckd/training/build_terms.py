"""The terms that have to be built, of what student and teacher say of one image."""

from __future__ import annotations

import torch

from bckd.correspondence import compared
from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
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

    Raises:
        InputError: student or teacher lacks what a term needs.
    """
    needs = needs_of_terms(recipe, recipe.weights)
    answer = teaching if teacher is None else live_teaching(teacher.detector)
    if answer is None or not (recipe.terms or any(x for _, x in needs)):
        return OwnTerms(())
    device = next(student.parameters()).device
    batch = training.batch([0]).to(device)
    pair = student.eval()(batch.images), answer(batch)
    rules = assignment_rules(recipe, recipe.weights)
    supervision = supervision_of(student, recipe)
    assignment = supervision.assign(pair[0], batch.ground_truth, batch.padded_sizes, rules)
    check_needs(needs, *pair, assignment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        terms = (*terms_with_adapters(recipe.weights), *named_terms(recipe.terms))
        return OwnTerms(terms, *compared(*pair, assignment)[:2])

"""Which terms a student minimises, and how much each weighs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from bckd.recipes import LossOptions, LossWeights, Recipe
from bckd.structures import Assignment, DenseOutput
from bckd.training.terms import loss_terms, weights_at

SUPERVISED = {"qfl", "dfl", "giou"}
NOTHING = LossWeights(binary=0, iou=0)


@pytest.fixture
def student(dense_output: Callable[..., DenseOutput]) -> DenseOutput:
    return dense_output(seed=0)


@pytest.fixture
def teacher(dense_output: Callable[..., DenseOutput]) -> DenseOutput:
    return dense_output(seed=1)


@pytest.fixture
def assignment(student: DenseOutput, assignment_of: Callable[..., Assignment]) -> Assignment:
    region = torch.full((2, student.cls_logits.shape[1]), 0.5)
    return assignment_of(student, {(0, 3): 1, (1, 21): 0}, region)


def test_without_a_teacher_nothing_is_distilled(
    student: DenseOutput, assignment: Assignment
) -> None:
    terms = loss_terms("gfl", student, None, assignment, LossWeights(softmax=1), LossOptions())
    assert set(terms) == SUPERVISED


@pytest.mark.parametrize("name", ["binary", "iou", "softmax", "ld", "ld_region"])
def test_a_term_is_there_where_it_weighs(
    name: str, student: DenseOutput, teacher: DenseOutput, assignment: Assignment
) -> None:
    pair = (student, teacher, assignment)
    assert set(loss_terms("gfl", *pair, NOTHING, LossOptions())) == SUPERVISED
    once, twice = (
        loss_terms("gfl", *pair, replace(NOTHING, **{name: weight}), LossOptions())
        for weight in (1, 2)
    )
    assert set(once) == SUPERVISED | {name}
    assert once[name] > 0 and once[name] == twice[name]  # unweighted


def test_terms_are_named_as_their_weights() -> None:
    assert {"binary", "iou", "softmax", "ld", "ld_region"} | SUPERVISED <= {
        field.name for field in fields(LossWeights)
    }


def test_terms_begin_and_end_with_their_part_of_the_run() -> None:
    options = LossOptions(softmax_until=0.5, binary_from=0.25)
    recipe = Recipe(steps=8, weights=LossWeights(softmax=2.0, binary=3.0), losses=options)
    found = [weights_at(recipe, step) for step in range(8)]
    assert [weights.softmax for weights in found] == [2.0] * 4 + [0.0] * 4
    assert [weights.binary for weights in found] == [0.0] * 2 + [3.0] * 6
    assert all(weights.iou == recipe.weights.iou for weights in found)

"""Each distillation term by itself: what it adds to a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bckd.bench.heard import teacher_of_random, teaching_of
from bckd.bench.random_batches import random_batch
from bckd.bench.results import LeftOut, Line
from bckd.bench.subject import Subject, network_of
from bckd.bench.timing import timed
from bckd.correspondence import compared
from bckd.losses.terms import TERMS, Need, Term
from bckd.models.dense import DenseDetector
from bckd.recipes.loss_weights import LossWeights
from bckd.structures import Assignment, Batch, DenseOutput
from bckd.system.precision import computing_in
from bckd.teachers.heads import CrossedHeads
from bckd.training.own_terms import NamedTerm, OwnTerms
from bckd.training.terms import assignment_rules, supervision_of

PART = "terms"


def time_terms(subject: Subject) -> Iterator[Line | LeftOut]:
    """A line a term: the loss of what both say, and its gradient down to what the student says.

    Adapters and generators learn with it, and what CrossKD sends through heads is part of it. The
    networks' own passes are not, nor the assignment, which the losses of labels need anyway.
    """
    if subject.teacher is None:
        yield LeftOut(PART, "nobody teaches, so there is no term to time")
        return
    pair = _pair(subject)
    for name, term in TERMS.items():
        if lacking := pair.lacks(term.needs):
            yield LeftOut(PART, f"{name} was left out: it needs {lacking}")
            continue
        compute = pair.term(subject, name, term)
        step = _and_gradient(compute, pair)
        yield Line(PART, name, timed(step, subject.device, subject.repeat, warm_up=2))


@dataclass(frozen=True)
class _Pair:
    """What a term is computed of; the student's tensors are leaves that learn."""

    student: DenseOutput
    teacher: DenseOutput
    assignment: Assignment
    batch: Batch
    heads: CrossedHeads

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.student.per_location().values(), *self.student.features]

    def lacks(self, needs: tuple[Need, ...]) -> str:
        """The first thing that it has not of what a term needs; "" if it has all."""
        both = self.student.box_logits is not None and self.teacher.box_logits is not None
        return "box distributions of both" if "distributions" in needs and not both else ""

    def term(self, subject: Subject, name: str, term: Term) -> Callable[[], Tensor]:
        """The term as a step computes it."""
        given = (self.student, self.teacher, self.assignment, self.batch)
        if term.make is not None:
            function = term.make(subject.recipe.losses)
            return lambda: function(*given)
        own = (NamedTerm(name, name, 1.0, term.module),)
        module = OwnTerms(own, self.student, self.teacher, heads=self.heads).to(subject.device)
        return lambda: module(*given)[name]


@torch.no_grad()
def _said(
    subject: Subject, batch: Batch, student: DenseDetector, teacher: DenseDetector
) -> tuple[DenseOutput, DenseOutput]:
    with computing_in(subject.autocast, subject.device):
        ours = student(batch.images)
    return ours, teaching_of(teacher, subject)(batch)


def _pair(subject: Subject) -> _Pair:
    recipe = subject.recipe
    student = network_of(recipe.model, subject.class_names).to(subject.device).train()
    teacher = teacher_of_random(subject)
    assert teacher is not None
    batch = random_batch(subject, recipe.batch_size, seed=0).to(subject.device)
    ours, theirs = _said(subject, batch, student, teacher)
    rules = assignment_rules(recipe, replace(LossWeights(), ld_region=1.0))
    supervision = supervision_of(student, recipe)
    assignment = supervision.assign(ours, batch.ground_truth, batch.padded_sizes, rules)
    leaf: dict[str, Any] = {name: x.requires_grad_() for name, x in ours.per_location().items()}
    maps = tuple(x.requires_grad_() for x in ours.features)  # in what the student computes in
    pair = compared(replace(ours, **leaf, features=maps), theirs, assignment)
    return _Pair(*pair, batch, CrossedHeads(student, teacher))


def _and_gradient(compute: Callable[[], Tensor], pair: _Pair) -> Callable[[], None]:
    """The term and its gradient, as if the optimiser had cleared the one before."""

    def step() -> None:
        for leaf in pair.leaves:
            leaf.grad = None
        compute().backward()

    return step

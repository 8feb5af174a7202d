"""The training step and its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice

import torch

from bckd.bench.flop import StepFlop, flop_of_a_step
from bckd.bench.heard import BACKWARD, PARTS, STUDENT, TEACHER, WAIT, HeardRun
from bckd.bench.random_batches import random_batch
from bckd.bench.results import Line
from bckd.bench.subject import Subject
from bckd.bench.timing import Spread, timed
from bckd.structures import Batch
from bckd.system.memory import forget_memory, most_memory
from bckd.training.terms import assignment_rules, supervision_of

PART = "step"
_BATCHES = 3  # that steps learn from in turn: their numbers of boxes differ, as in training
_WARM_UP = 2 * _BATCHES  # steps before those that count; what is compiled is compiled in them


def time_step(subject: Subject) -> Iterator[Line]:
    """Lines of the whole step, each of its parts, and the targets by themselves."""
    run, flop = HeardRun(subject), flop_of_a_step(subject)
    count = subject.recipe.batch_size
    batches = [random_batch(subject, count, seed).to(subject.device) for seed in range(_BATCHES)]
    forget_memory(subject.device)
    steps = _steps(run, batches, subject.repeat)
    yield from step_lines(steps, flop, count, most_memory(subject.device))
    yield Line(PART, "targets alone", _targets(run, batches[0], subject), count)


def step_lines(
    steps: list[dict[str, float]], flop: StepFlop, count: int, memory: int | None
) -> Iterator[Line]:
    """The whole step, then its parts.

    Args:
        steps: seconds of each part of each step, by name.
        flop: of an image.
        count: images of a step.
    """
    whole = [sum(x for name, x in step.items() if name != WAIT) for step in steps]
    yield Line(PART, "whole step", Spread.of(whole), count, flop.step * count, memory)
    counted = {STUDENT: flop.forward, TEACHER: flop.teacher, BACKWARD: flop.backward}
    for name in PARTS:
        seconds = [step[name] for step in steps if name in step]
        if seconds:
            operations = counted[name] * count if name in counted else None
            yield Line(PART, name, Spread.of(seconds), count, operations)


def _steps(run: HeardRun, batches: list[Batch], repeat: int) -> list[dict[str, float]]:
    for batch in islice(cycle(batches), _WARM_UP):
        run.step(replace(batch))
    run.read()
    for batch in islice(cycle(batches), repeat):
        run.step(replace(batch))  # without the images that the last step made of its pixels
    return run.read()


@torch.no_grad()
def _targets(run: HeardRun, batch: Batch, subject: Subject) -> Spread:
    """What the assigner takes, not compiled; a step has it with the losses."""
    recipe = subject.recipe
    rules = assignment_rules(recipe, None if run.teaching is None else recipe.weights)
    assign = supervision_of(run.student, recipe).assign
    output = run.student(batch.images)
    arguments = (output, batch.ground_truth, batch.padded_sizes, rules)
    return timed(lambda: assign(*arguments), subject.device, subject.repeat, warm_up=2)

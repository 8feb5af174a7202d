"""The training step and its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice

import torch

from bckd.bench.flop import StepFlop, flop_of_a_step
from bckd.bench.heard import BACKWARD, PARTS, STUDENT, TEACHER, WAIT, HeardRun
from bckd.bench.loading import training_batches
from bckd.bench.random_batches import random_batch
from bckd.bench.results import Line
from bckd.bench.subject import Subject
from bckd.bench.timing import Spread, timed
from bckd.structures import Batch
from bckd.system.memory import forget_memory, most_memory
from bckd.training.terms import assignment_rules, supervision_of

PART = "step"
_BATCHES = 3  # that steps learn from in turn: their numbers of boxes differ, as in training
_WARM_UP = _BATCHES + 1  # steps before those that count; what is compiled is compiled in them


def time_step(subject: Subject) -> Iterator[Line]:
    """Lines of the whole step, each of its parts, and the targets by themselves."""
    run, flop = HeardRun(subject), flop_of_a_step(subject)
    count = subject.recipe.batch_size
    batches = [random_batch(subject, count, seed).to(subject.device) for seed in range(_BATCHES)]
    steps = _steps(run, batches, subject.repeat)
    yield from step_lines(steps, flop, count, most_memory(subject.device))
    yield Line(PART, "targets alone", _targets(run, batches[0], subject))
    yield from _with_loader(run, subject)


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
            yield Line(PART, name, Spread.of(seconds), flop=operations)


def _steps(run: HeardRun, batches: list[Batch], repeat: int) -> list[dict[str, float]]:
    for batch in islice(cycle(batches), _WARM_UP):
        run.step(replace(batch))
    run.read()
    forget_memory(run.clock.device)
    for batch in islice(cycle(batches), repeat):
        run.step(replace(batch))  # without the images that the last step made of its pixels
    return run.read()


def _with_loader(run: HeardRun, subject: Subject) -> Iterator[Line]:
    """The whole step with images from the loader, and how much of it is spent waiting for them."""
    # As many steps first as batches are loaded ahead, which no step would have to wait for.
    ahead = 2 * subject.recipe.data.workers if subject.device.type == "cuda" else 1
    with training_batches(subject) as batches:
        for batch in islice(batches, ahead + 1):
            run.step(batch.to(subject.device))
        run.read()
        for batch in islice(batches, subject.repeat + 1):
            run.step(batch.to(subject.device))
        steps = run.read()[1:]  # the first one's wait had begun before
    whole = Spread.of([sum(step.values()) for step in steps])
    wait = Spread.of([step[WAIT] for step in steps])
    count = subject.recipe.batch_size
    yield Line(PART, "whole step, images loaded", whole, count)
    yield Line(PART, WAIT, wait)


@torch.no_grad()
def _targets(run: HeardRun, batch: Batch, subject: Subject) -> Spread:
    """What the assigner takes, not compiled; a step has it with the losses."""
    recipe = subject.recipe
    rules = assignment_rules(recipe, None if run.teaching is None else recipe.weights)
    assign = supervision_of(run.student, recipe).assign
    output = run.student(batch.images)
    arguments = (output, batch.ground_truth, batch.padded_sizes, rules)
    return timed(lambda: assign(*arguments), subject.device, subject.repeat, warm_up=2)

"""A run whose steps a clock listens to: the run's own, with marks around what they call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bckd.bench.subject import Subject, network_of
from bckd.bench.timing import Clock
from bckd.models.dense import DenseDetector
from bckd.structures import Batch, DenseOutput
from bckd.system.interruption import Ending
from bckd.teachers.matching import matched
from bckd.teachers.targets import Teaching
from bckd.training.loss_window import LossWindow
from bckd.training.own_terms import OwnTerms
from bckd.training.run import Run
from bckd.training.run_log import NoLog
from bckd.training.schedule import build_optimizer
from bckd.training.teacher import ready_teacher

WAIT = "data wait"
PIXELS = "pixels to images"
STUDENT = "student forward"
TEACHER = "teacher"
LOSSES = "targets and losses"
BACKWARD = "backward"
OPTIMISER = "optimiser"
REST = "rest"
PARTS = (PIXELS, STUDENT, TEACHER, LOSSES, BACKWARD, OPTIMISER, REST)


class HeardRun:
    """A student that learns from batches, step by step, and a clock that hears of it.

    Clipping of the gradient counts as a part of the backward pass.
    """

    def __init__(self, subject: Subject) -> None:
        device = subject.device
        self.clock, self.steps_done = Clock(device), 0
        recipe = subject.recipe
        student = network_of(recipe.model, subject.class_names)
        student = student.to(device).to(memory_format=torch.channels_last).train()
        optimizer = build_optimizer(student, recipe.optimisation)
        scaler = _HeardScaler(self.clock, subject.autocast is torch.float16)
        teaching = teaching_of_random(subject)
        heard = None if teaching is None else _heard(teaching, self.clock)
        parts = (student, OwnTerms(()), heard, optimizer, scaler, None)
        bookkeeping = (NoLog(), LossWindow(), Ending(None), False, 0.0)
        self.run = Run(recipe, {}, *parts, *bookkeeping)
        self.student, self.teaching = student, teaching
        network, self.own = self.run.networks()
        self.network = _HeardNetwork(network, student, self.clock)
        self.bar: tqdm[Any] = tqdm(disable=True)

    def step(self, batch: Batch) -> None:
        """Learn from a batch on the device."""
        self.clock.mark(WAIT)
        self.run.step(self.network, self.own, batch, self.steps_done, self.bar)
        self.clock.mark(REST)
        self.steps_done += 1

    def read(self) -> list[dict[str, float]]:
        """Seconds of each part of each step since the last call, by name."""
        self.run.finite.settle()
        steps: list[dict[str, float]] = []
        found = self.clock.read()
        # The first mark is the end of the first wait, which nothing began.
        for name, seconds in [(WAIT, 0.0), *found]:
            if name == WAIT:
                steps.append({})
            steps[-1][name] = steps[-1].get(name, 0.0) + seconds
        return steps


def teaching_of_random(subject: Subject) -> Teaching | None:
    """What a teacher with random weights says of a batch; None where nobody teaches."""
    teacher = teacher_of_random(subject)
    return None if teacher is None else teaching_of(teacher, subject)


def teacher_of_random(subject: Subject) -> DenseDetector | None:
    """A teacher with random weights as its student takes it; None where nobody teaches."""
    if subject.teacher is None:
        return None
    teacher: DenseDetector = network_of(subject.teacher, subject.class_names)
    model = subject.recipe.model
    teacher = matched(teacher, "teacher", subject.class_names, model.strides, model.normalisation)
    teacher = teacher.requires_grad_(False).eval().to(subject.device)
    return teacher.to(memory_format=torch.channels_last)


def teaching_of(teacher: DenseDetector, subject: Subject) -> Teaching:
    """What a teacher says, as training makes it ready."""
    return ready_teacher(teacher, subject.recipe)


def _heard(teaching: Teaching, clock: Clock) -> Teaching:
    def teach(batch: Batch) -> DenseOutput:
        clock.mark(REST)
        output = teaching(batch)
        clock.mark(TEACHER)
        return output

    return teach


class _HeardNetwork(nn.Module):
    """A student's network, compiled or not, that marks each of its forward passes.

    Args:
        student: whose network it is, for what it learns from labels.
    """

    def __init__(self, network: nn.Module, student: DenseDetector, clock: Clock) -> None:
        super().__init__()
        self.network, self.supervision, self.clock = network, student.supervision, clock

    def forward(self, images: Tensor) -> DenseOutput:
        self.clock.mark(PIXELS)
        output = self.network(images)
        self.clock.mark(STUDENT)
        return output


class _HeardScaler(torch.amp.GradScaler):
    """The scaler of a step's loss, which is called between its parts, also where it scales none."""

    def __init__(self, clock: Clock, enabled: bool) -> None:
        super().__init__(clock.device.type, enabled=enabled)
        self.clock = clock

    def scale(self, outputs: Any) -> Any:
        self.clock.mark(LOSSES)
        return super().scale(outputs)

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        self.clock.mark(BACKWARD)
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        self.clock.mark(OPTIMISER)
        super().update(new_scale)

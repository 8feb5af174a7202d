"""Operations of a step, counted once on tensors that have a shape and no values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from bckd.bench.random_batches import random_batch
from bckd.bench.subject import Subject
from bckd.models.detector import Detector
from bckd.models.grouped import forward_in_groups
from bckd.structures import Batch
from bckd.teachers.targets import live_teaching

Result = TypeVar("Result")


@dataclass(frozen=True)
class StepFlop:
    """Operations of one image in a step, a multiplication and an addition being two.

    Only convolutions and matrix products count, which are nearly all.
    """

    teacher: int
    forward: int
    backward: int

    @property
    def step(self) -> int:
        """Of all of it."""
        return self.teacher + self.forward + self.backward


def counted(work: Callable[[], Result]) -> tuple[int, Result]:
    """Operations of some work, and its result."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops(), result


def flop_of_a_step(subject: Subject) -> StepFlop:
    """Operations of an image in a step, by its parts.

    The backward pass is that of a plain sum: losses add no convolution to it.
    """
    count = subject.recipe.images_per_group or 1
    real = random_batch(subject, count, seed=0)
    with FakeTensorMode() as mode, torch.random.fork_rng(devices=[]):
        batch = _without_values(real, mode)
        student = Detector(subject.recipe.model, subject.class_names).train()
        forward, output = counted(lambda: forward_in_groups(student, batch.images, batch.canvases))
        total = torch.stack([x.sum() for x in output.per_location().values()]).sum()
        backward, _ = counted(total.backward)
        teacher = 0
        if subject.teacher is not None:
            network = Detector(subject.teacher, subject.class_names).requires_grad_(False).eval()
            teacher, _ = counted(lambda: live_teaching(network)(batch))
    return StepFlop(teacher // count, forward // count, backward // count)


def _without_values(batch: Batch, mode: FakeTensorMode) -> Batch:
    return replace(
        batch,
        pixels=mode.from_tensor(batch.pixels),
        sizes=mode.from_tensor(batch.sizes),
        padded_sizes=mode.from_tensor(batch.padded_sizes),
        ground_truth=batch.ground_truth.with_each(mode.from_tensor),
    )


def flop_of_an_image(subject: Subject) -> int:
    """Operations of the student's network on an image."""
    real = random_batch(subject, 1, seed=0)
    with FakeTensorMode() as mode, torch.random.fork_rng(devices=[]), torch.no_grad():
        images = _without_values(real, mode).images
        detector = Detector(subject.recipe.model, subject.class_names).eval()
        return counted(lambda: detector(images))[0]

"""What a run refuses: images that can't be shared or grouped, and numbers that are not finite."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bckd.datasets.coco import CocoDataset
from bckd.models.adopted import Adopted
from bckd.models.backbones.base import COARSEST
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.system.distributed import process_count
from bckd.system.errors import InputError, NonFiniteLossError
from bckd.system.late import Coming
from bckd.system.telling import some
from bckd.training.terms import Terms


def own_share(recipe: Recipe) -> int:
    """Images of a step that are this process's."""
    if recipe.batch_size % process_count():
        raise InputError(
            f"batch_size is {recipe.batch_size}; expected a multiple of the {process_count()} "
            f"processes that share it"
        )
    share = recipe.batch_size // process_count()
    if share % recipe.accumulate:
        raise InputError(
            f"accumulate is {recipe.accumulate}; expected a divisor of the {share} images that a "
            f"process has of a step"
        )
    return share


def check_groups(
    recipe: Recipe, student: DenseDetector, own_images: int, training: CocoDataset
) -> None:
    """A BatchNorm that learns takes its statistics over a group.

    No two processes can share one, and one image that is a single cell has none.
    """
    if not learns_batch_norm(student):
        return
    size = recipe.images_per_group
    if size and own_images % size:
        raise InputError(
            f"images_per_group is {size} where a process has {own_images} images at once; "
            f"expected a divisor, since BatchNorm learns (--model.norm-eval fixes it)"
        )
    if (size or own_images) > 1:
        return
    sides = recipe.data.multi_scale
    smallest = training.size if sides is None else replace(training.size, short_side=sides[0])
    canvases = ((x.file_name, smallest.canvas(x.height, x.width)) for x in training.images)
    small = [name for name, canvas in canvases if max(canvas) <= COARSEST]
    if small:
        what = (
            f"images that are {COARSEST} pixels or less at this --data.size ({{}}) have one value "
            f"a channel, too few for a BatchNorm that learns on one image at a time (expected "
            f"larger images, more of them, or --model.norm-eval)"
        )
        raise InputError(f"{training.annotations.path}: {some(what, small)}")


def learns_batch_norm(student: DenseDetector) -> bool:
    """Whether any BatchNorm of the student takes the statistics of its batches in training."""
    norms = [module for module in student.train().modules() if isinstance(module, _BatchNorm)]
    return any(norm.training for norm in norms)


class FiniteCheck:
    """Refuses a step whose loss is not finite, one step later, when the host knows."""

    def __init__(self, student: DenseDetector) -> None:
        self.student_type = type(student.network if isinstance(student, Adopted) else student)
        self.pending: _Sums | None = None

    def add(self, total: Tensor, terms: Terms, step: int, batch: Batch) -> None:
        """Take note of a step, and settle the one before.

        Args:
            total: the loss.

        Raises:
            NonFiniteLossError: the step before had a loss that is not finite.
        """
        before, self.pending = self.pending, _Sums.of(total, terms, step, batch)
        self._refuse(before)

    def settle(self) -> None:
        """As `add` does, of the last step."""
        before, self.pending = self.pending, None
        self._refuse(before)

    def _refuse(self, step: _Sums | None) -> None:
        if step is None or not (broken := step.not_finite()):
            return
        terms = " and ".join(name for name in step.terms if name in broken)
        fields = ", ".join(name for name in step.fields if name in broken)
        who = self.student_type.__name__
        of_student = f" (nor is what the student, a {who}, gives as {fields})" if fields else ""
        raise NonFiniteLossError(
            f"loss term {terms or 'sum'} is not finite at step {step.number}{of_student}, "
            f"images {', '.join(step.file_names)}"
            + ("; a smaller learning rate may help" if step.number else " (no weight has changed)")
        )


@dataclass(frozen=True)
class _Sums:
    """What tells of a step whether it was finite: its loss, its terms, sums of the output."""

    coming: Coming
    terms: tuple[str, ...]
    fields: tuple[str, ...]
    number: int
    file_names: tuple[str, ...]

    @classmethod
    def of(cls, total: Tensor, terms: Terms, number: int, batch: Batch) -> _Sums:
        said = terms.output.per_location()
        sums = [x.detach().sum() for x in said.values()]
        numbers = torch.stack([total.detach(), *(x.detach() for x in terms.values.values()), *sums])
        return cls(Coming.of(numbers), (*terms.values,), (*said,), number, batch.file_names)

    def not_finite(self) -> set[str]:
        """Names of terms and fields, if the loss is not finite; "" is the loss."""
        names = ("", *self.terms, *self.fields)
        finite = self.coming.read().isfinite().tolist()
        return (
            {n for n, holds in zip(names, finite, strict=True) if not holds}
            if not finite[0]
            else set()
        )


def check_weighted(values: Collection[str], weights: Collection[str]) -> None:
    """Refuse a loss that has no weight: its family's `terms` does not name it."""
    unknown = next((name for name in values if name not in weights), None)
    if unknown is not None:
        raise InputError(
            f"the student's losses give {unknown!r}; expected a name that its `terms` weigh: "
            f"{', '.join(weights)}"
        )


def check_weights(
    student: nn.Module, terms: nn.Module, scaler: torch.amp.GradScaler, step: int
) -> None:
    """A finite loss can have an infinite gradient: never save what can't be resumed."""
    if scaler.get_scale() < 1:
        raise NonFiniteLossError(
            f"gradients overflow fp16 at every step up to {step}, however small the loss is made; "
            f"--precision float32 or a smaller learning rate may help"
        )
    for name, value in [*student.state_dict().items(), *terms.state_dict().items()]:
        if not torch.isfinite(value).all():
            raise NonFiniteLossError(
                f"weights {name} are not finite after step {step}; a smaller learning rate may help"
            )

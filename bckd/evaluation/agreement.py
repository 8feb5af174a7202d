"""How far a student's scores are from its teacher's, in the detector's own protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bckd.models.dense import DenseDetector
from bckd.structures import Batch

# A location is foreground where the teacher's top score reaches this: far above the .01
# that an untrained head says everywhere, and low enough for the IoU-like scores of GFL,
# which stay well below 1 on objects that are hard to place.
FOREGROUND_SCORE = 0.2


@dataclass(frozen=True)
class Agreement:
    """Means over the valid locations of a data set; nan where there is none of a kind.

    Foreground are the locations at which the teacher's top score is at least
    `FOREGROUND_SCORE`, background all others.

    Attributes:
        score_error: mean over locations and classes of |sigmoid(l_s) - sigmoid(l_t)|.
        logit_shift: mean over locations and classes of l_s - l_t: the part of the
            difference that a softmax over classes can't see, on average.
        foreground_error, background_error: `score_error` of these locations.
        foreground_shift, background_shift: `logit_shift` of these locations.
        shift_spread: standard deviation over locations of the mean over classes of
            l_s - l_t. A shift that is the same everywhere cancels in it, as it does in
            AP, which depends on the order of scores alone (but for the detector's lowest
            score). One that differs between locations changes that order; a softmax over
            classes sees neither.
        class_agreement: share of the foreground at which student and teacher have the
            same top class.
    """

    score_error: float
    logit_shift: float
    foreground_error: float
    background_error: float
    foreground_shift: float
    background_shift: float
    shift_spread: float
    class_agreement: float


def agreement(
    student: DenseDetector, teacher: DenseDetector, loader: DataLoader[Batch]
) -> Agreement:
    """Compare two detectors of the same locations and classes on a data set.

    They are put into eval mode and left as they were found.
    """
    return agreement_with(student, valid_logits(teacher, loader), loader)


@torch.no_grad()
def valid_logits(detector: DenseDetector, loader: DataLoader[Batch]) -> list[Tensor]:
    """The class logits (V, K) of the valid locations of each batch, on the CPU.

    The detector is put into eval mode and left as it was found.
    """
    device, training = next(detector.parameters()).device, detector.training
    detector.eval()
    found = []
    for batch in loader:
        batch = batch.to(device)
        output = detector(batch.images)
        valid = output.locations.inside(batch.padded_sizes)
        found.append(output.cls_logits[valid].cpu())
    detector.train(training)
    return found


def agreement_with(
    student: DenseDetector, teacher: Sequence[Tensor], loader: DataLoader[Batch]
) -> Agreement:
    """Compare a detector with what another says of the same batches.

    Args:
        teacher: its logits, as `valid_logits` gives them.
    """
    running = {field.name: _Running() for field in fields(Agreement)}
    for ours, theirs in zip(valid_logits(student, loader), teacher, strict=True):
        for name, values in _differences(ours.double(), theirs.double()).items():
            running[name].add(values)
    found = {name: values.mean() for name, values in running.items()}
    return Agreement(**{**found, "shift_spread": running["shift_spread"].deviation()})


def _differences(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """What each field of `Agreement` is a mean or deviation of, from logits (V, K)."""
    error, shift = (student.sigmoid() - teacher.sigmoid()).abs(), student - teacher
    foreground = teacher.sigmoid().amax(dim=-1) >= FOREGROUND_SCORE
    same_class = student.argmax(dim=-1) == teacher.argmax(dim=-1)
    return {
        "score_error": error,
        "logit_shift": shift,
        "foreground_error": error[foreground],
        "background_error": error[~foreground],
        "foreground_shift": shift[foreground],
        "background_shift": shift[~foreground],
        "shift_spread": shift.mean(dim=-1),
        "class_agreement": same_class[foreground].double(),
    }


class _Running:
    """Mean and standard deviation of values that come in parts.

    Squares are taken around each part's own mean and merged (Chan, Golub, LeVeque 1979):
    the mean of squares less the square of the mean would lose a small spread on a large shift.
    """

    def __init__(self) -> None:
        self.total, self.count, self.squares = 0.0, 0, 0.0

    def add(self, values: Tensor) -> None:
        """Take in one part, of any shape."""
        new = values.numel()
        if new == 0:
            return
        mean = values.mean().item()
        self.squares += (values - mean).square().sum().item()
        if self.count:
            gap = mean - self.mean()
            self.squares += gap**2 * self.count * new / (self.count + new)
        self.total += values.sum().item()
        self.count += new

    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    def deviation(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else math.nan

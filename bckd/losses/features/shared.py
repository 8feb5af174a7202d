"""What the feature terms share: adapters of channels, and pairs of maps."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from bckd.structures import DenseOutput


def adapter(ours: int, theirs: int) -> nn.Module:
    """What brings a student's map to the teacher's channels.

    Nothing where these are equal, else a 1x1 convolution that learns.
    """
    return nn.Identity() if ours == theirs else nn.Conv2d(ours, theirs, 1)


def adapters_of(student: DenseOutput, teacher: DenseOutput) -> nn.ModuleList:
    """One adapter a level."""
    pairs = zip(student.features, teacher.features, strict=True)
    return nn.ModuleList(adapter(ours.shape[1], theirs.shape[1]) for ours, theirs in pairs)


def adapted(
    adapters: nn.ModuleList, student: DenseOutput, teacher: DenseOutput
) -> Iterator[tuple[Tensor, Tensor]]:
    """Level by level the student's map, adapted, and the teacher's, (N, C, H, W) each.

    In float32, whatever the networks compute in; only the student's has a gradient.
    """
    for adapt, ours, theirs in zip(adapters, student.features, teacher.features, strict=True):
        yield adapt(ours.float()), theirs.detach().float()

"""What the terms of the pyramids' maps share: adapters of channels, and pairs of maps."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from bckd.losses.needs import Need
from bckd.structures import Assignment, Batch, DenseOutput


class FeatureTerm(nn.Module):
    """A term of both pyramids' maps, with an adapter a level.

    A sum over the levels of what `level` says of each; a term that also looks at boxes or scores,
    or divides by what all levels have, has a `forward` of its own.

    Args:
        student, teacher: what both say of one image, for the channels of their maps.

    Attributes:
        adapters: one a level.
    """

    needs: ClassVar[tuple[Need, ...]] = ("features",)

    def __init__(self, student: DenseOutput, teacher: DenseOutput) -> None:
        super().__init__()
        maps = zip(student.features, teacher.features, strict=True)
        self.adapters = nn.ModuleList(
            adapter(ours.shape[1], theirs.shape[1]) for ours, theirs in maps
        )

    def pairs(self, student: DenseOutput, teacher: DenseOutput) -> list[tuple[Tensor, Tensor]]:
        """Level by level the student's map, adapted, and the teacher's, (N, C, H, W) each.

        In float32, whatever the networks compute in; only the student's has a gradient.
        """
        maps = zip(self.adapters, student.features, teacher.features, strict=True)
        return [(adapt(ours.float()), theirs.detach().float()) for adapt, ours, theirs in maps]

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None = None,
    ) -> Tensor:
        """Unweighted scalar."""
        pairs = self.pairs(student, teacher)
        return torch.stack([self.level(n, *pair) for n, pair in enumerate(pairs)]).sum()

    def level(self, number: int, ours: Tensor, theirs: Tensor) -> Tensor:
        """Of the maps (N, C, H, W) of one level, its number counted from the finest: a scalar."""
        raise NotImplementedError(f"{type(self).__name__} lacks `level`, or a `forward` of its own")


def adapter(ours: int, theirs: int) -> nn.Module:
    """What brings a student's map to the teacher's channels.

    Nothing where these are equal, else a 1x1 convolution that learns.
    """
    return nn.Identity() if ours == theirs else nn.Conv2d(ours, theirs, 1)

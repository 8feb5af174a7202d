"""The locations of a batch that a loss looks at, as rows; without the host waiting for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The P rows at which a mask holds: on a CPU these alone, elsewhere all N * A of them.

    How many places a mask has, the host learns from a GPU by waiting for it, and a compiled graph
    not at all. There every location is a row, and what lies outside the mask is made 0.

    Attributes:
        mask: (N, A) bool.
        chosen: (P,) places of the flattened mask, or None where all locations are rows.
    """

    mask: Tensor
    chosen: Tensor | None

    @classmethod
    def where(cls, mask: Tensor) -> Rows:
        """The rows of a mask (N, A), in its order."""
        if mask.device.type != "cpu" or torch.compiler.is_compiling():
            return cls(mask, None)
        return cls(mask, mask.flatten().nonzero().squeeze(1))

    def take(self, values: Tensor) -> Tensor:
        """(P, ...) of values (N, A, ...)."""
        rows = values.flatten(0, 1)
        return rows if self.chosen is None else rows[self.chosen]

    def take_each(self, values: Tensor) -> Tensor:
        """(P, ...) of values (A, ...) that are the same for all images."""
        return self.take(values.expand(len(self.mask), *values.shape))

    def only(self, values: Tensor) -> Tensor:
        """Values (P, ...), 0 outside the mask whatever they are there."""
        if self.chosen is not None:
            return values
        held = self.mask.flatten().reshape(-1, *[1] * (values.dim() - 1))
        return torch.where(held, values, 0)

    def put(self, values: Tensor) -> Tensor:
        """Values (P, ...) at their places of (N, A, ...), 0 elsewhere."""
        if self.chosen is None:
            return self.only(values).unflatten(0, self.mask.shape)
        places = values.new_zeros(self.mask.numel(), *values.shape[1:])
        return places.index_copy(0, self.chosen, values).unflatten(0, self.mask.shape)

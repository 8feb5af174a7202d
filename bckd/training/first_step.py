"""What the first step says of a recipe's weights: terms that teach nothing, or drown all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bckd.system.distributed import mean_over_processes
from bckd.system.late import Coming
from bckd.system.telling import tell

DROWNS = 100  # times all losses from labels


class FirstStep:
    """Tells of distillation terms that are 0, or a hundred times the losses from labels.

    One step late, when the host knows (see `Coming`).
    """

    def __init__(self) -> None:
        self.pending: _Weighted | None = None

    def add(self, weighted: Mapping[str, Tensor], labels: Collection[str], step: int) -> None:
        """Take note of the first step, and settle it in the next; processes take part together.

        Args:
            weighted: the terms times their weights by name.
            labels: names of the losses from labels; all others are distilled.
        """
        self.settle()
        if step == 0 and not set(weighted) <= set(labels):
            values = mean_over_processes(torch.stack([x.detach() for x in weighted.values()]))
            self.pending = _Weighted(Coming.of(values), (*weighted,), frozenset(labels))

    def settle(self) -> None:
        """Tell what there is to tell."""
        step, self.pending = self.pending, None
        if step is not None:
            step.tell()


@dataclass(frozen=True)
class _Weighted:
    """The weighted terms of a step, on their way to the host."""

    coming: Coming
    terms: tuple[str, ...]
    labels: frozenset[str]

    def tell(self) -> None:
        """Tell which distillation term is 0, and which one drowns the losses from labels."""
        values = dict(zip(self.terms, self.coming.read().tolist(), strict=True))
        learnt = sum(value for name, value in values.items() if name in self.labels)
        for name in sorted(set(self.terms) - self.labels):
            if values[name] == 0:
                tell(f"the distillation term {name} is 0 in the first step: it teaches nothing")
            elif learnt > 0 and values[name] > DROWNS * learnt:
                tell(
                    f"the distillation term {name} is {values[name] / learnt:.0f} times the losses "
                    f"from labels in the first step: these will hardly be learnt (a smaller weight "
                    f"of {name} helps)"
                )

"""A step's images in parts, one after the other, with the terms and the gradient of all at once.

What a term is divided by depends on all images of a step: positives, the scores of GFL, sums over
a group. So no part has a loss of its own. The student first answers part by part, and nothing is
kept but what it says. Terms are those of all these answers together, and so is their gradient on
them. Then each part goes through the student again, and takes its rows of that gradient back to
the weights, where they add up. This is exact whatever the terms are, for a second forward pass;
activations are those of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bckd.evaluation.gradient_shares import flat_gradient
from bckd.models.grouped import at_levels, joined, statistics_kept
from bckd.recipes import Recipe
from bckd.structures import Batch, DenseOutput
from bckd.training.terms import answer


class InParts:
    """What a student says of a batch, part by part.

    Args:
        network: the student, perhaps shared or compiled.
        autocast: what it computes in; None: float32.
        seed: called with the number of a part before each of its forward passes, which draw the
            same numbers then.

    Attributes:
        output: of all images. A loss of it is to be followed backwards, and then `backward`.
    """

    def __init__(
        self,
        network: nn.Module,
        batch: Batch,
        recipe: Recipe,
        autocast: torch.dtype | None,
        seed: Callable[[int], None],
    ) -> None:
        self.network, self.batch, self.recipe = network, batch, recipe
        self.autocast, self.seed = autocast, seed
        with torch.no_grad(), statistics_kept(network):
            found = joined([self._answer(n, x) for n, x in enumerate(batch.parts(self._count))])
        leaves: dict[str, Any] = {name: _leaf(x) for name, x in found.per_location().items()}
        leaves["features"] = tuple(_leaf(x) for x in found.features)
        self.output = replace(found, **leaves)

    def backward(self) -> None:
        """Add the gradient of the weights to theirs, from that of `output`."""
        whole = [x.grad for x in _tensors(self.output)]
        for number, part in enumerate(self.batch.parts(self._count)):
            with self._alone(number):
                said = self._said_again(number, part)
                torch.autograd.backward(*self._of_part(said, whole, number))

    def gradients(self, terms: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Each term's gradient on parameters, flat, this process's own; for a forward pass more.

        Nothing is added to any `.grad`, and running statistics stay.

        Args:
            terms: scalars, made of `output`.
        """
        leaves = _tensors(self.output)
        wholes = [_gradients_on(leaves, term) for term in terms]
        found = [torch.zeros((), device=x.device) for x in terms]
        with statistics_kept(self.network):
            for number, part in enumerate(self.batch.parts(self._count)):
                said = self._said_again(number, part)
                for n, whole in enumerate(wholes):
                    outputs, given = self._of_part(said, whole, number)
                    found[n] = found[n] + flat_gradient(outputs, parameters, given)
        return found

    def _said_again(self, number: int, part: Batch) -> list[Tensor]:
        return _tensors(at_levels(self._answer(number, part), self.output.locations.levels))

    def _of_part(
        self, said: list[Tensor], whole: Sequence[Tensor | None], number: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What a part says that has a gradient, and its rows of that gradient."""
        size = len(self.batch.pixels) // self._count
        rows = slice(number * size, (number + 1) * size)
        pairs = zip(said, whole, strict=True)
        known = [(x, y[rows]) for x, y in pairs if x.requires_grad and y is not None]
        return [x for x, _ in known], [y for _, y in known]

    @property
    def _count(self) -> int:
        return self.recipe.accumulate

    def _answer(self, number: int, part: Batch) -> DenseOutput:
        self.seed(number)
        share = (number, self._count)
        return answer(self.network, part, self.recipe, self.autocast, share)

    def _alone(self, number: int) -> AbstractContextManager[None]:
        """Until the last part, processes keep their gradients to themselves."""
        network = getattr(self.network, "_orig_mod", self.network)  # of one that is compiled
        last = number == self._count - 1
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()


def _gradients_on(leaves: list[Tensor], term: Tensor) -> Sequence[Tensor | None]:
    if not term.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(term, leaves, retain_graph=True, allow_unused=True)


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()


def _tensors(output: DenseOutput) -> list[Tensor]:
    return [*output.per_location().values(), *output.features]

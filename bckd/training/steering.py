"""Weights that are steered, so that a term's gradient is a given part of the whole one.

A term's pull is the L2 norm of its weighted gradient on the student's parameters in front of the
head (`pull_of_terms`), its share the part of the sum of all terms' pulls. With the wanted shares
r_i of the steered terms, r their sum, and F the sum of the other terms' pulls, every share is the
wanted one where the pull of term i is r_i F / (1 - r). So a weight is multiplied by that over the
pull that was measured: for one term it is w (r / (1 - r)) ((1 - s) / s), of a measured share s.

After RT-DETRv4's gradient-guided adaptive modulation (arXiv 2510.25257; RT-DETRs/RT-DETRv4,
engine/solver/det_solver.py and det_engine.py), whose factor is the same. What differs: it steers a
single term once an epoch, by the L1 norm of the whole loss's gradient on the encoder's transformer,
as part of the one on all parameters, to the far edge of a band about the wanted part. That tells
nothing of a term that acts elsewhere; here each term has a pull of its own.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from bckd.losses.terms import TERMS
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.training.own_terms import named_terms

EVERY = 50  # steps from one measurement, which costs a backward pass a term, to the next
MEMORY = 0.7  # of the weights so far in a new one; the first measurements count as in a mean
BOUND = 100.0  # a weight is at most so many times the given one, and at least such a part of it


def named_shares(recipe: Recipe) -> dict[str, float]:
    """The wanted share of each steered term, by its name.

    Raises:
        InputError: a text of `recipe.shares` is no NAME=SHARE, there is no such term, it has weight
            0, or the shares leave nothing to the others.
    """
    weights = {name: getattr(recipe.weights, name) for name in TERMS}
    weights |= {term.name: term.weight for term in named_terms(recipe.terms)}
    shares: dict[str, float] = {}
    for text in recipe.shares:
        name, _, share = text.partition("=")
        if name not in weights:
            raise InputError(
                f"shares has {text!r}, but there is no distillation term {name!r}; "
                f"{expected(name, weights)}"
            )
        if weights[name] == 0:
            raise InputError(
                f"shares has {text!r}, but the weight of {name} is 0; expected one above 0, from "
                f"which it is steered"
            )
        if name in shares:
            raise InputError(f"shares has {name} twice")
        shares[name] = _share(text, share)
    if sum(shares.values()) >= 1:
        whole = f"{sum(shares.values()):g}"
        raise InputError(f"shares add to {whole}; expected less than 1, the rest is for the others")
    return shares


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise InputError(f"shares has {text!r}; expected NAME=SHARE, a share between 0 and 1")
    return value


class Steering(nn.Module):
    """Factors on the given weights of the steered terms.

    Args:
        shares: wanted, by the term's name.

    Attributes:
        log_factors: (S,) logarithm of each steered term's factor.
        measurements: (S,) how many have changed it.
        shares: (S,) the share that was measured last; 0: none yet.
    """

    log_factors: Tensor
    measurements: Tensor
    shares: Tensor

    def __init__(self, shares: dict[str, float]) -> None:
        super().__init__()
        self.wanted = shares
        for name in ("log_factors", "measurements", "shares"):
            self.register_buffer(name, torch.zeros(len(shares)))

    def weights(self, given: dict[str, float]) -> dict[str, float | Tensor]:
        """The weights of all terms, scalars those that are steered, from the given ones."""
        factors = dict(zip(self.wanted, self.log_factors.exp().unbind(), strict=True))
        return {name: x * factors[name] if name in factors else x for name, x in given.items()}

    @staticmethod
    def measures(step: int) -> bool:
        """Whether the pulls are to be measured in a step."""
        return step % EVERY == 0

    @torch.no_grad()
    def update(self, pull: dict[str, Tensor]) -> None:
        """Bring the weights of the steps to come nearer to their shares; the host does not wait.

        A term stays as it is where it has no part in the step, or pulls nowhere, or nothing else
        does, or a pull is no finite number.

        Args:
            pull: of every term of a step, as `pull_of_terms` gives it.
        """
        present = [name for name in self.wanted if name in pull]
        rest = 1 - sum(self.wanted[name] for name in present)
        fixed = [x for name, x in pull.items() if name not in present]
        if not fixed:
            return
        others, whole = (torch.stack(x).sum() for x in (fixed, [*pull.values()]))
        for n, name in enumerate(self.wanted):
            if name not in pull:
                continue
            gap = log(self.wanted[name] / rest) + others.log() - pull[name].log()
            known = gap.isfinite()
            count = self.measurements[n] + known
            part = count.clamp(min=1).reciprocal().clamp(min=1 - MEMORY)
            moved = (self.log_factors[n] + part * gap).clamp(-log(BOUND), log(BOUND))
            self.log_factors[n] = torch.where(known, moved, self.log_factors[n])
            self.shares[n] = torch.where(known, pull[name] / whole, self.shares[n])
            self.measurements[n] = count

    def told(self, weights: dict[str, float | Tensor]) -> dict[str, dict[str, float]]:
        """What the log says of each steered term: the weight of a step, and the last share.

        The host waits for these.

        Args:
            weights: as the step used them.
        """
        used = torch.stack([torch.as_tensor(weights[name]) for name in self.wanted]).tolist()
        rows = zip(self.wanted, used, self.shares.tolist(), strict=True)
        return {name: {"weight": weight, "share": share} for name, weight, share in rows}


def steering_of(recipe: Recipe) -> Steering | None:
    """What steers the recipe's weights; None where they are constants."""
    shares = named_shares(recipe)
    return Steering(shares) if shares else None

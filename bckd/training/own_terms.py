"""Distillation terms that a run builds: those with adapters, and a recipe's from outside.

A term is a function (student, teacher, assignment, batch) -> scalar, or the class of an
`nn.Module` whose `forward` is that and whose `__init__` takes what student and teacher say of one
image, by which it builds adapters of their channels; one that needs "head" takes the heads of
both too (see `bckd.teachers.heads.CrossedHeads`). Its parameters learn with the student's; they
are part of the resume state, and of no student that is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bckd.losses.terms import NEEDS, TERMS, Need, TermFunction
from bckd.recipes.loss_weights import LossWeights
from bckd.structures import Assignment, Batch, DenseOutput
from bckd.system.errors import InputError
from bckd.system.named import load_named
from bckd.system.values import PositiveOrZero, from_plain
from bckd.teachers.heads import CrossedHeads


@dataclass(frozen=True)
class NamedTerm:
    """A term that a run builds.

    Attributes:
        text: the recipe's words, MODULE:NAME=WEIGHT, or the name in `TERMS`.
        name: in the log.
        weight: of it.
        made_of: the function or the class.
    """

    text: str
    name: str
    weight: float
    made_of: Any

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it needs beside logits, boxes, assignment and batch."""
        return tuple(getattr(self.made_of, "needs", ()))


@dataclass(frozen=True)
class _Weight:
    weight: PositiveOrZero


def terms_with_adapters(weights: LossWeights) -> tuple[NamedTerm, ...]:
    """The terms of `TERMS` that are modules, with these weights; none of weight 0."""
    return tuple(
        NamedTerm(name, name, getattr(weights, name), term.module)
        for name, term in TERMS.items()
        if term.module is not None and getattr(weights, name) != 0
    )


def named_terms(texts: tuple[str, ...]) -> tuple[NamedTerm, ...]:
    """The terms of a recipe's `terms`.

    Raises:
        InputError: a text is no MODULE:NAME=WEIGHT, there is no such function or class, it needs
            what no detector has, or two terms have one name.
    """
    found = tuple(_named(text) for text in texts)
    names = [*vars(LossWeights()), *(term.name for term in found)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"terms: there are two terms {twice!r}; expected another name of one")
    return found


def _named(text: str) -> NamedTerm:
    place, _, weight = text.partition("=")
    if not (place and weight):
        raise InputError(f"terms has {text!r}; expected MODULE:NAME=WEIGHT")
    try:
        value = float(weight)
    except ValueError as error:
        raise InputError(f"terms has {text!r}, whose weight is no number") from error
    value = from_plain(_Weight, {"weight": value}, f"terms has {text!r}").weight
    term = NamedTerm(text, place.rpartition(":")[2], value, load_named(place, "terms"))
    strange = [need for need in term.needs if need not in NEEDS]
    if strange:
        raise InputError(
            f"term {term.name} needs {strange[0]!r}; expected some of {', '.join(NEEDS)}"
        )
    return term


class OwnTerms(nn.Module):
    """Terms that a run builds, ready to be computed; all that learn are its parameters.

    Args:
        terms: as `terms_with_adapters` and `named_terms` give them.
        pair: what student and teacher say of some images, made comparable; not needed where
            there are no terms.
        heads: of both; not needed where no term needs them.

    Attributes:
        weights: by the term's name.
    """

    def __init__(
        self, terms: Sequence[NamedTerm], *pair: DenseOutput, heads: CrossedHeads | None = None
    ) -> None:
        super().__init__()
        self.weights = {term.name: term.weight for term in terms}
        self.modules_of = nn.ModuleDict()
        self.functions: dict[str, TermFunction] = {}
        for term in terms:
            if term.weight == 0:
                continue
            if isinstance(term.made_of, type) and issubclass(term.made_of, nn.Module):
                further = (heads,) if "head" in term.needs else ()
                self.modules_of[term.name] = term.made_of(*pair, *further)
            else:
                self.functions[term.name] = term.made_of

    @property
    def learns(self) -> bool:
        """Whether any parameter does."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(
        self, student: DenseOutput, teacher: DenseOutput, assignment: Assignment, batch: Batch
    ) -> dict[str, Tensor]:
        """Unweighted terms by their name, none of weight 0.

        Raises:
            InputError: a term is no scalar.
        """
        found = {}
        for name in self.weights:
            term = self.functions.get(name) or (
                self.modules_of[name] if name in self.modules_of else None
            )
            if term is None:
                continue
            value = term(student, teacher, assignment, batch)
            if not isinstance(value, Tensor) or value.dim() > 0:
                shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"term {name} gives {shown}; expected a tensor of no dimension")
            found[name] = value
        return found

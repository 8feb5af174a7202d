"""The weights of all loss terms, a field each, as the tables of terms have them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS
from bckd.system.values import PositiveOrZero


def supervised_titles() -> dict[str, str]:
    """What each loss from labels is, by its name; with the families that have it."""
    families: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for head in HEADS.values():
        for name, term in head.terms.items():
            families.setdefault(name, []).append(head.title)
            titles[name] = term.title
    return {name: f"{', '.join(families[name])}: {title}" for name, title in titles.items()}


def _defaults() -> dict[str, float]:
    """The weight of each term by its name.

    Raises:
        ValueError: two families give a loss of one name another weight, or a distillation term
            has the name of a loss.
    """
    found: dict[str, float] = {}
    for family, head in HEADS.items():
        for name, term in head.terms.items():
            if found.setdefault(name, term.weight) != term.weight:
                raise ValueError(
                    f"{family} gives {name} the weight {term.weight}, another family "
                    f"{found[name]}; expected another name of it"
                )
    twice = sorted(set(found) & set(TERMS))
    if twice:
        raise ValueError(f"{twice[0]} is a loss of a family and a distillation term")
    return found | {name: term.weight for name, term in TERMS.items()}


def _make() -> type:
    texts = supervised_titles() | {name: term.text for name, term in TERMS.items()}
    fields: list[Any] = [
        (name, Annotated[PositiveOrZero, tyro.conf.arg(help=texts[name])], default)
        for name, default in _defaults().items()
    ]
    made = dataclasses.make_dataclass("LossWeights", fields, frozen=True)
    made.__module__ = __name__  # so that another process finds it
    made.__doc__ = """Weight of every loss term; a distillation term of weight 0 is not computed.

    Each family has its own supervised terms, with its official weights; those of other
    families play no part. Distillation terms take part when there is a teacher.
    """
    return made


if TYPE_CHECKING:

    class LossWeights:
        """See `_make`."""

        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

        def __init__(self, **weights: float) -> None: ...
        def __getattr__(self, name: str) -> float: ...
else:
    LossWeights = _make()

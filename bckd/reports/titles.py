"""The names of loss terms for eyes."""

from __future__ import annotations

from collections.abc import Iterable

from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS

TITLES = {
    **{name: term.title for head in HEADS.values() for name, term in head.terms.items()},
    **{name: term.title for name, term in TERMS.items()},
}


def in_order(terms: Iterable[str]) -> list[str]:
    """Terms in the order of `TITLES`; those of one's own come last, by name."""
    present = set(terms)
    return [term for term in TITLES if term in present] + sorted(present - set(TITLES))

"""The colours of classes and runs, in pages and in figures."""

from __future__ import annotations

# Okabe and Ito's palette, which colour-blind readers can tell apart; one colour a class or run.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
SCORES = "viridis"  # matplotlib's name of the colours of scores


def colour(index: int) -> str:
    """The colour of class or run `index`; it repeats after eight."""
    return PALETTE[index % len(PALETTE)]

"""Colours and the look shared by all figures."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; one colour a class or run.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
SCORE_COLOURS = matplotlib.colormaps["viridis"]
DIFFERENCE_COLOURS = matplotlib.colormaps["magma"]


def colour(index: int) -> str:
    """The colour of class or run `index`; it repeats after eight."""
    return PALETTE[index % len(PALETTE)]


def figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches, outside pyplot's state."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")

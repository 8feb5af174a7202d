"""Makers of lines of a made-up study, and readers of the figures drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from bckd.studies.tables import TIDE

SEEDS = range(3)


def _line(
    method: str, seed: int, ap: float | None, scale: float = 1.0, part: str = "comparison"
) -> dict[str, Any]:
    base = {"part": part, "method": method, "scale": scale, "seed": seed, "AP": ap}
    if ap is None:
        return {**base, "failed": "the loss is not finite at step 3"}
    tide = {kind: 0.01 * n + 0.1 * ap for n, kind in enumerate(TIDE)}
    return {**base, "score_error": 0.04 - ap / 20, "logit_shift": seed, "tide": tide}


def _comparison(gain: float = 0.0, *methods: str) -> list[dict[str, Any]]:
    return [
        _line(method, seed, 0.3 + gain + 0.02 * n + 0.003 * seed * seed)
        for n, method in enumerate(methods or ("none", "softmax", "BCKD"))
        for seed in SEEDS
    ]


def _sweep() -> list[dict[str, Any]]:
    aps = {0.25: (0.30, 0.31), 1.0: (0.33, 0.34), 4.0: (0.35, None)}
    return [
        _line(method, 100 + n, None if ap is None else ap + gain, scale, "sweep")
        for method, gain in (("softmax", 0.0), ("BCKD", 0.01))
        for scale, runs in aps.items()
        for n, ap in enumerate(runs)
    ]


def _legend_of(figure: Figure) -> list[str]:
    """Entries of the one legend, which lies in the picture and outside the panels."""
    (legend,) = figure.legends
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    for axes in figure.axes:
        assert not box.overlaps(axes.get_tightbbox())
    return [text.get_text() for text in legend.get_texts()]


def _lines_by_colour(figure: Figure) -> dict[str, Any]:
    """The first line through two points or more of each colour."""
    found: dict[str, Any] = {}
    for drawn in figure.axes[0].lines:
        if len(drawn.get_xdata()) > 1:
            found.setdefault(drawn.get_color(), drawn)
    return found


@pytest.fixture
def line() -> Callable[..., Any]:
    return _line


@pytest.fixture
def comparison() -> Callable[..., Any]:
    return _comparison


@pytest.fixture
def sweep() -> Callable[..., Any]:
    return _sweep


@pytest.fixture
def legend_of() -> Callable[..., Any]:
    return _legend_of


@pytest.fixture
def lines_by_colour() -> Callable[..., Any]:
    return _lines_by_colour

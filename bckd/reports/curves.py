"""Curves as SVG, in the colours of the page around them."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 22  # margins
POINTS = 240  # of a line; where a log has more, each is the mean of some
_LOGARITHMIC = 8  # a ratio of largest to smallest value from which the axis is

Line = tuple[Sequence[float], Sequence[float]]  # steps, values


def curve(
    title: str,
    lines: Mapping[str, Line],
    last: int,
    *,
    plain: bool = False,
    over: str = "the steps",
    ends: tuple[float, float] | None = None,
) -> str:
    """A figure of lines over the steps of a run; nothing where no line has a finite value.

    Args:
        lines: by name, which the legend shows where there are several. Their colours go by their
            places here, also where one before them has no value.
        last: the step at the right end.
        plain: a linear axis, whatever the values.
        over: what goes from 0 to `last`, in place of steps.
        ends: lowest and highest value of the axis; None: as the values say.
    """
    colours = {name: f"c{number % 8}" for number, name in enumerate(lines)}
    drawn = {name: thinned(*line) for name, line in lines.items()}
    drawn = {name: line for name, line in drawn.items() if len(line[1])}
    if not drawn:
        return ""
    values = np.concatenate([y for _, y in drawn.values()])
    low, high = ends or (float(values.min()), float(values.max()))
    logarithmic = not plain and low > 0 and high / low > _LOGARITHMIC
    ticks, low, high = _scale(low, high, logarithmic)
    bend = math.log if logarithmic else float

    def place(y: float) -> float:
        share = (bend(y) - bend(low)) / (bend(high) - bend(low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place(y):.1f}" '
        f'y2="{place(y):.1f}"/><text x="{LEFT - 5}" y="{place(y) + 4:.1f}" '
        f'text-anchor="end">{y:g}</text>'
        for y in ticks
    ]
    for step, anchor in ((0, "start"), (last, "end")):
        x = LEFT if step == 0 else WIDTH - RIGHT
        parts.append(f'<text x="{x}" y="{HEIGHT - 5}" text-anchor="{anchor}">{step:,}</text>')
    for name, (steps, ys) in drawn.items():
        xs = LEFT + steps / max(last, 1) * (WIDTH - LEFT - RIGHT)
        points = [(x, place(y)) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line {colours[name]}" points="{path}"/>')
        x, y = points[-1]
        parts.append(f'<circle class="{colours[name]}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
    legend = "".join(
        f'<span><i class="{colours[name]}"></i>{html.escape(name)}</span>' for name in drawn
    )
    below = f'<div class="legend">{legend}</div>' if len(drawn) > 1 else ""
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)} over '
        f'{html.escape(over)}">{"".join(parts)}</svg>{below}</figure>'
    )


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The finite values and their steps, as `POINTS` means at most."""
    x, y = np.asarray(steps, float), np.asarray(values, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(y) <= POINTS:
        return x, y
    starts = np.linspace(0, len(y), POINTS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(y)])
    return tuple(np.add.reduceat(each, starts) / counts for each in (x, y))  # type: ignore


def _scale(low: float, high: float, logarithmic: bool) -> tuple[list[float], float, float]:
    """A few round values for the axis, and its two ends."""
    if logarithmic:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 1.7 else (1.0,)
        found = LogLocator(subs=subs, numticks=6).tick_values(low, high)
        return [float(y) for y in found if low <= y <= high], low / 1.05, high * 1.05
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    found = MaxNLocator(4).tick_values(low, high)
    room = (high - low) / 20
    ticks = [float(y) for y in found if low - room <= y <= high + room]
    return ticks, low - room, high + room

"""Values with their intervals as SVG: a row a name, a point and a line a detector."""

from __future__ import annotations

import html
from collections.abc import Mapping

from matplotlib.ticker import MaxNLocator

from bckd.evaluation.resampling import Interval

WIDTH, SIDE = 340, 12
_NAME, _LINE = 15, 11  # pixels of a row's name and of each of its lines

Row = Mapping[str, Interval]  # by detector


def interval_plot(title: str, rows: Mapping[str, Row], first: int = 0) -> str:
    """A figure of intervals in percent, on one axis; nothing where no value is known.

    Args:
        rows: by the name that stands above their lines. All have the same detectors, in the same
            order.
        first: number of the colour of a row's first line.
    """
    known = [x for row in rows.values() for x in row.values() if x.value is not None]
    if not known:
        return ""
    lows, highs = zip(*((100 * (x.low or 0), 100 * (x.high or 0)) for x in known), strict=True)
    ticks = MaxNLocator(5).tick_values(min(lows), max(highs))
    start, end = float(ticks[0]), float(ticks[-1])
    names = list(next(iter(rows.values())))
    height = len(rows) * (_NAME + _LINE * len(names) + 4) + 22

    def place(share: float) -> float:
        return SIDE + (100 * share - start) / (end - start) * (WIDTH - 2 * SIDE)

    parts = []
    for tick in map(float, ticks):
        x = place(tick / 100)
        kind = "zero" if tick == 0 and start < 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 18}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{tick:g}</text>')
    y = 0
    for name, row in rows.items():
        parts.append(f'<text class="name" x="{SIDE}" y="{y + 12}">{html.escape(name)}</text>')
        y += _NAME
        for number, one in enumerate(row.values()):
            middle, hue = y + _LINE * number + 5, f"c{(first + number) % 8}"
            if one.value is not None:
                low, value, high = (place(x or 0) for x in (one.low, one.value, one.high))
                parts.append(
                    f'<line class="line {hue}" x1="{low:.1f}" x2="{high:.1f}" '
                    f'y1="{middle}" y2="{middle}"/>'
                    f'<circle class="{hue}" cx="{value:.1f}" cy="{middle}" r="3.2"/>'
                )
        y += _LINE * len(names) + 4
    legend = "".join(
        f'<span><i class="c{(first + number) % 8}"></i>{html.escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">'
        f'{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'
    )

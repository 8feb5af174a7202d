"""The gain to expect: what was measured here, with intervals, beside what others report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from bckd.studies.statistics import Difference
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS, WIDTH
from bckd.viz.rows import row_panel
from bckd.viz.style import figure

ARROW = " → "
_PAIR = re.compile(rf"(\d+\.\d+){ARROW}(\d+\.\d+)")


def published_gains(page: str) -> dict[str, list[float]]:
    """Gains in AP of detectors that are trained for long, from the page of published methods.

    Args:
        page: the text of `notebooks/methods.md`; a row of its table of families has pairs
            "alone → distilled", and a gain where the two differ in distillation alone.

    Returns:
        By family, distilled minus alone of each of its models, in points.

    Raises:
        InputError: no row has such a pair.
    """
    found = {}
    for line in page.partition("| family |")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        told = len(cells) == 5 and any(map(str.isdigit, cells[3]))  # else it has no twin
        if told and (pairs := _PAIR.findall(cells[2])):
            found[cells[0]] = [float(after) - float(before) for before, after in pairs]
    if not found:
        raise InputError(f"the page has no family with pairs 'alone{ARROW}distilled'")
    return found


def gains_beside(ours: Mapping[str, Difference], theirs: Mapping[str, Sequence[float]]) -> Figure:
    """One row a regime or family: AP gained by distillation, in points.

    Args:
        ours: by regime, AP minus that of no distillation in 0..1, drawn with its interval.
        theirs: by family, the gain of each model in points: single numbers without an interval.
    """
    drawing = figure(WIDTH, 1.1 + 0.27 * (len(ours) + len(theirs)))
    above, below = drawing.subplots(
        2, 1, sharex=True, height_ratios=(len(ours), len(theirs)), squeeze=True
    )
    for row, gain in enumerate(ours.values()):
        low, mean, high = (100 * x for x in (gain.low, gain.mean, gain.high))
        above.plot([low, high], [row, row], color=METHOD_COLOURS["BCKD"], linewidth=2)
        above.plot(mean, row, "D", color=METHOD_COLOURS["BCKD"], markersize=6)
    for row, gains in enumerate(theirs.values()):
        below.plot(gains, [row] * len(gains), "o", color="0.35", markersize=6, alpha=0.7)
    titles = ("measured here: BCKD - none, mean and 95 % interval", "reported, one dot a model")
    for axes, rows, title in zip((above, below), (ours, theirs), titles, strict=True):
        row_panel(axes, list(rows), title)
    below.set_xlabel("AP gained, points", fontsize=10)
    return drawing

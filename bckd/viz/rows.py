"""Panels with a named row a difference: what figures of studies share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from bckd.studies.statistics import Difference
from bckd.viz.style import Style


def row_panel(axes: Axes, names: Sequence[str], title: str, size: int = 10) -> None:
    """One row a name, the first on top, with a line at 0 and no frame.

    Args:
        size: of the title, in points.
    """
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.set_yticks(range(len(names)), list(names), fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(title, fontsize=size, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def interval(
    axes: Axes, found: Difference, y: float, colour: str, marker: str = "o", label: str = ""
) -> None:
    """A difference in points as a marker, and as a line its interval, if it has one."""
    if math.isfinite(found.low):
        axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=1.8)
    style: Style = {"color": colour, "markersize": 6, "markeredgecolor": "white", "linestyle": ""}
    axes.plot([100 * found.mean], [y], marker=marker, label=label or "_", **style)

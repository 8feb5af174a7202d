"""The figure of a study with many methods: what each gains, best first, at several measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import Difference, Line, methods_of
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS, WIDTH, name_of
from bckd.viz.style import figure

OTHERS = "0.35"  # of methods without a colour of their own: here each has a row and a name


def ranking(
    lines: Iterable[Line],
    reference: str = "none",
    marked: str = "BCKD",
    fields: Sequence[str] = ("AP", "AP50", "AP75"),
) -> Figure:
    """A row a method, a panel a measure: the difference to the reference with its interval.

    Intervals are over runs and over the images judged on (`difference_on_images`). The methods
    are ordered by the first measure; the grey band is the interval of the marked one.

    Args:
        lines: of one study, from common starts.

    Raises:
        InputError: the comparison has fewer than two methods, or the reference is none of them.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    methods = [name for name in methods_of(lines) if name != reference]
    if reference not in methods_of(lines) or not methods:
        raise InputError(
            f"a ranking needs runs of {reference!r} and of other methods; found {methods_of(lines)}"
        )
    found = {
        field: {name: difference_on_images(lines, name, reference, field) for name in methods}
        for field in fields
    }
    order = sorted(methods, key=lambda name: -found[fields[0]][name].mean)
    drawing = figure(WIDTH, 1.0 + 0.29 * len(order))
    panels = drawing.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(panels, fields, strict=True):
        if marked in order:
            band = found[field][marked]
            axes.axvspan(100 * band.low, 100 * band.high, color="0.9", zorder=0)
        axes.axvline(0, color="black", linewidth=1, zorder=1)
        for row, name in enumerate(order):
            _row(axes, row, found[field][name], METHOD_COLOURS.get(name, OTHERS))
        axes.set_title(field, fontsize=11)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
    panels[0].set_yticks(range(len(order)), [name_of(name) for name in order], fontsize=10)
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    drawing.supxlabel(
        f"minus {name_of(reference)}, points; mean and 95% interval; band: {marked}", fontsize=10
    )
    return drawing


def _row(axes: Axes, row: int, found: Difference, colour: str) -> None:
    if math.isfinite(found.low):
        axes.plot([100 * found.low, 100 * found.high], [row, row], color=colour, linewidth=1.8)
    axes.plot([100 * found.mean], [row], "o", color=colour, markersize=6, markeredgecolor="white")

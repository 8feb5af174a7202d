"""The figure of a study with many methods: what each gains, best first, at several measures."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure

from bckd.studies.noise import difference_on_images
from bckd.studies.ranking import FIELDS
from bckd.studies.statistics import Line, methods_of
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS, WIDTH, name_of
from bckd.viz.rows import interval, row_panel
from bckd.viz.style import figure

OTHERS = "0.35"  # of methods without a colour of their own: here each has a row and a name


def ranking(lines: Iterable[Line]) -> Figure:
    """A row a method, a panel a measure: the difference to no distillation with its interval.

    Intervals are over runs and over the images judged on (`difference_on_images`). The methods
    are ordered by AP; the grey band is BCKD's interval.

    Args:
        lines: of one study, from common starts.

    Raises:
        InputError: the comparison has no run of none, or of nothing else.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    present = methods_of(lines)
    methods = [name for name in present if name != "none"]
    if "none" not in present or not methods:
        raise InputError(f"a ranking needs runs of 'none' and of other methods; found {present}")
    found = {
        field: {name: difference_on_images(lines, name, "none", field) for name in methods}
        for field in FIELDS
    }
    order = sorted(methods, key=lambda name: -found["AP"][name].mean)
    drawing = figure(WIDTH, 1.0 + 0.29 * len(order))
    panels = drawing.subplots(1, len(FIELDS), sharey=True)
    for axes, (field, differences) in zip(panels, found.items(), strict=True):
        if "BCKD" in order:
            band = differences["BCKD"]
            axes.axvspan(100 * band.low, 100 * band.high, color="0.9", zorder=0)
        for row, name in enumerate(order):
            interval(axes, differences[name], row, METHOD_COLOURS.get(name, OTHERS))
        row_panel(axes, [name_of(name) for name in order], field, size=11)
    label = "minus no distillation, points; mean and 95% interval; band: BCKD"
    drawing.supxlabel(label, fontsize=10)
    return drawing

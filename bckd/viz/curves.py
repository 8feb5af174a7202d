"""Training curves from the logs of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bckd.reports.titles import TITLES, in_order
from bckd.viz.methods import name_of, style_of
from bckd.viz.style import figure

# Ticks of a logarithmic axis, as multiples of a power of ten, for axes of up to so many decades.
TICKS = (
    (0.4, (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)),
    (1.2, (1, 1.5, 2, 3, 4, 5, 7)),
    (2.5, (1, 2, 5)),
)


def training_curves(logs: dict[str, list[dict[str, Any]]], smooth: int = 5) -> Figure:
    """Unweighted loss terms over steps, one panel a term, one line a run.

    Args:
        logs: by method, which has its colour in every figure, or by another name of the run,
            the records of `bckd.training.run_log.read_log`.
        smooth: records of the running mean.
    """
    steps_of = {name: [r for r in records if "unweighted" in r] for name, records in logs.items()}
    present = {term for records in steps_of.values() for r in records for term in r["unweighted"]}
    terms = in_order(present)
    drawing = figure(9.5, 2.7 * -(-len(terms) // 3))
    panels = drawing.subplots(-(-len(terms) // 3), 3, squeeze=False).ravel()
    for panel, term in zip(panels, terms, strict=False):
        for name, records in steps_of.items():
            found = [(r["step"], r["unweighted"][term]) for r in records if term in r["unweighted"]]
            if found:
                steps, values = np.array(found).T
                kernel = np.ones(min(smooth, len(values)))
                mean = np.convolve(values, kernel, "valid") / len(kernel)
                marker = "o" if len(mean) == 1 else ""
                own = style_of(name, list(steps_of))["color"]
                style = {"color": own, "label": name_of(name), "marker": marker}
                panel.plot(steps[len(kernel) - 1 :], mean, **style)
        panel.set_title(TITLES.get(term, term), fontsize=9)
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(which="both", labelsize=7)
        _plain_log_scale(panel)
        panel.grid(alpha=0.3)
    for panel in panels[len(terms) :]:
        panel.set_axis_off()
    handles = panels[0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=len(steps_of), fontsize=9)
    return drawing


def _plain_log_scale(panel: Axes) -> None:
    """A logarithmic axis with 0.3 in place of 3 x 10^-1; the wider, the fewer ticks a decade."""
    values = np.concatenate([line.get_ydata() for line in panel.get_lines()] or [[0.0]])
    if not (values > 0).any():
        return
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    decades = np.log10(high / low)
    subs = next((subs for widest, subs in TICKS if decades < widest), (1,))
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())

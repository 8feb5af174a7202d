"""Figures of a study: what methods gain, over regimes, weights and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bckd.studies.statistics import (
    Difference,
    Line,
    failed,
    in_order,
    methods_of,
    scales_of,
    summarise,
    values,
)
from bckd.system.errors import InputError
from bckd.viz.methods import (
    AP_LABEL,
    METHOD_COLOURS,
    WIDTH,
    expect_methods,
    method_legend,
    name_of,
    plot_means,
    style_of,
)
from bckd.viz.rows import interval, row_panel
from bckd.viz.style import Style, figure


def difference_map(regimes: dict[str, dict[str, Difference]], reference: str) -> Figure:
    """One row a regime, in it each method's AP difference to the reference with its interval.

    Args:
        regimes: by title of the row and by method, in the unit of AP, 0..1.
        reference: the method that the differences are taken to.

    Raises:
        InputError: there is no difference to draw.
    """
    methods = in_order(method for row in regimes.values() for method in row)
    if not methods:
        raise InputError(
            "the map of differences has no regime with a method; expected at least one"
        )
    row_height = max(0.34, 0.13 * len(methods) + 0.08)  # inches
    drawing = figure(WIDTH, 1.2 + row_height * len(regimes))
    axes = drawing.subplots()
    row_panel(axes, list(regimes), "")
    for row, found in enumerate(regimes.values()):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="0.94", zorder=0)
        present = [method for method in methods if method in found]
        for place, method in enumerate(present):
            y = row + 0.8 / len(methods) * (place - (len(present) - 1) / 2)
            style = style_of(method, methods)
            interval(axes, found[method], y, style["color"], style["marker"])
    axes.set_xlabel(
        f"AP minus AP of {name_of(reference)}, points; mean and 95% interval", fontsize=10
    )
    method_legend(drawing, methods, methods)
    return drawing


def sweep_curves(lines: Iterable[Line]) -> Figure:
    """AP over the scale of the published weights: a line a method through the means of the seeds.

    Every seed is a dot beside its mean. No distillation, which all methods tend to at 0, is a
    dashed line. A failed run counts as AP 0: it is a cross at the lower edge, and the mean may
    lie below the axis, which spans the runs that did not fail.

    Raises:
        InputError: there is no run of a sweep.
    """
    lines = [line for line in lines if line["part"] == "sweep"]
    found = methods_of(lines, "sweep")
    methods = [name for name in found if name != "none"]
    expect_methods(methods, "sweep")
    drawing = figure(WIDTH, 4.6)
    axes = drawing.subplots()
    scales = sorted({line["scale"] for line in lines if line["method"] != "none"})
    if "none" in found:
        mean = 100 * summarise(values(lines, "none", part="sweep").values()).mean
        axes.axhline(mean, color=METHOD_COLOURS["none"], linestyle="--", linewidth=1.2)
    for place, method in enumerate(methods):
        # Methods stand side by side at one scale, a factor of 1.06 apart, seeds beside the mean.
        shift = 1.06 ** (place - (len(methods) - 1) / 2)
        x = {scale: scale * shift for scale in scales_of(lines, method)}
        runs = {scale: values(lines, method, "AP", "sweep", scale).values() for scale in x}
        style = style_of(method, methods)
        means = [100 * summarise(run).mean for run in runs.values()]
        axes.plot(list(x.values()), means, **style, markersize=7, linewidth=1.6)
        own = [line for line in lines if line["method"] == method]
        dots = [(1.025 * x[n["scale"]], 100 * n["AP"]) for n in own if not failed(n)]
        dots_style: Style = {"s": 16, "color": style["color"], "edgecolors": "0.2"}
        axes.scatter([x for x, _ in dots], [y for _, y in dots], **dots_style, linewidths=0.5)
        lost = [1.025 * x[line["scale"]] for line in own if failed(line)]
        # At the lower edge: the AP of the other runs would be flat on an axis down to 0.
        edge: Style = {"transform": axes.get_xaxis_transform(), "marker": "x", "s": 50, "zorder": 3}
        axes.scatter(lost, [0.03] * len(lost), color=style["color"], **edge)
    worked = [100 * line["AP"] for line in lines if not failed(line)]
    if worked:
        margin = 0.08 * (max(worked) - min(worked)) + 0.2
        axes.set_ylim(min(worked) - margin, max(worked) + margin)
    axes.set_xscale("log")
    _ticks(axes, scales)
    axes.set_xlabel("factor on the published weights (log scale)")
    axes.set_ylabel(f"{AP_LABEL}; line: mean, dots: seeds")
    axes.grid(alpha=0.3)
    further = []
    if "none" in found:
        label = name_of("none")
        further.append(Line2D([], [], color=METHOD_COLOURS["none"], linestyle="--", label=label))
    if any(failed(line) for line in lines):
        label = "failed run (AP 0)"
        further.append(Line2D([], [], marker="x", color="0.3", linestyle="", label=label))
    method_legend(drawing, methods, methods, further)
    return drawing


def schedule_curves(lines_by_steps: dict[int, list[Line]], methods: Sequence[str]) -> Figure:
    """AP over the number of training steps: mean and standard error of the comparison's seeds.

    Args:
        lines_by_steps: the lines of one study by their number of steps.
        methods: those to draw; one without a run at a number of steps has no point there.

    Raises:
        InputError: no method has a run.
    """
    drawing = figure(WIDTH, 4.6)
    axes = drawing.subplots()
    drawn = []
    for place, method in enumerate(methods):
        found = {
            steps: summarise(100 * ap for ap in values(lines, method).values())
            for steps, lines in sorted(lines_by_steps.items())
        }
        found = {steps: summary for steps, summary in found.items() if summary.count}
        if not found:
            continue
        drawn.append(method)
        shift = 1.03 ** (place - (len(methods) - 1) / 2)  # error bars side by side
        x = [steps * shift for steps in found]
        plot_means(axes, x, list(found.values()), style_of(method, methods))
    expect_methods(drawn, "comparison")
    axes.set_xscale("log")
    _ticks(axes, sorted(lines_by_steps))
    axes.set_xlabel("training steps (log scale)")
    axes.set_ylabel(f"{AP_LABEL}; mean and standard error")
    axes.grid(alpha=0.3)
    method_legend(drawing, drawn, methods)
    return drawing


def _ticks(axes: Axes, places: Sequence[float]) -> None:
    """Ticks of a log axis at the measured places alone."""
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)

"""Figures of a study: methods over regimes, weights, schedules and error types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bckd.errors import InputError
from bckd.studies.statistics import (
    Difference,
    Line,
    Summary,
    failed,
    in_order,
    methods_of,
    scales_of,
    summarise,
    values,
)
from bckd.studies.tables import TIDE
from bckd.viz.curves import TITLES
from bckd.viz.style import PALETTE, colour, figure

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, _, BLACK = PALETTE
# The same method has the same colour in every figure. The yellow of the palette is too pale
# for a line on white; grey takes its place.
METHOD_COLOURS = {
    "none": BLACK,
    "softmax": ORANGE,
    "LD": PINK,
    "L_cls": SKY,
    "L_loc": GREEN,
    "softmax + L_loc": VERMILION,
    "BCKD": BLUE,
    "self": "#8C8C8C",
}
# A second mark of the method, for those who see the colours differently.
METHOD_MARKERS = dict(zip(METHOD_COLOURS, "osP^vXDh", strict=True))
# Of methods that are not listed, by their place in a figure: none of the colours above.
SPARE_COLOURS = ("#7B3294", "#8B5A2B", "#1B7837", "#B2182B", "#4D4D4D")
LABELS = {
    "score_error": "score error, mean |p_student - p_teacher|",
    "logit_shift": "logit shift, mean of student - teacher",
    "shift_spread": "shift spread, standard deviation over locations",
    "class_agreement": "class agreement, share of the foreground",
    "foreground_error": "score error on the foreground",
    "background_error": "score error on the background",
    "foreground_shift": "logit shift on the foreground",
    "background_shift": "logit shift on the background",
    "calibration_error": "calibration error",
}
WIDTH = 9.5  # inches, as the other figures
AP_LABEL = "AP, %"


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
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    for row, found in enumerate(regimes.values()):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="0.94", zorder=0)
        present = [method for method in methods if method in found]
        for place, method in enumerate(present):
            y = row + 0.8 / len(methods) * (place - (len(present) - 1) / 2)
            _interval(axes, found[method], y, method, methods)
    axes.set_yticks(range(len(regimes)), list(regimes), fontsize=10)
    axes.set_ylim(len(regimes) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"AP minus AP of {_name(reference)}, points; mean and 95% interval", fontsize=10
    )
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _legend(drawing, methods, methods)
    return drawing


def sweep_curves(lines: Iterable[Line]) -> Figure:
    """AP over the scale of the published weights: a line a method through the means of the seeds.

    Every seed is a dot beside its mean. A failed run counts as AP 0: it is a cross at the lower
    edge, and the mean may lie below the axis, which spans the runs that did not fail.

    Raises:
        InputError: there is no run of a sweep.
    """
    lines = [line for line in lines if line["part"] == "sweep"]
    methods = methods_of(lines, "sweep")
    _expect(methods, "sweep")
    drawing = figure(WIDTH, 4.6)
    axes = drawing.subplots()
    scales = sorted({line["scale"] for line in lines})
    for place, method in enumerate(methods):
        # Methods stand side by side at one scale, a factor of 1.06 apart, seeds beside the mean.
        shift = 1.06 ** (place - (len(methods) - 1) / 2)
        x = {scale: scale * shift for scale in scales_of(lines, method)}
        runs = {scale: values(lines, method, "AP", "sweep", scale).values() for scale in x}
        style = _style(method, methods)
        means = [100 * summarise(run).mean for run in runs.values()]
        axes.plot(list(x.values()), means, **style, markersize=7, linewidth=1.6)
        own = [line for line in lines if line["method"] == method]
        dots = [(1.025 * x[n["scale"]], 100 * n["AP"]) for n in own if not failed(n)]
        axes.scatter(*_columns(dots), s=16, color=style["color"], edgecolors="0.2", linewidths=0.5)
        lost = [1.025 * x[line["scale"]] for line in own if failed(line)]
        # At the lower edge: the AP of the other runs would be flat on an axis down to 0.
        edge = {"transform": axes.get_xaxis_transform(), "marker": "x", "s": 50, "zorder": 3}
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
    cross = Line2D([], [], marker="x", color="0.3", linestyle="", label="failed run (AP 0)")
    _legend(drawing, methods, methods, [cross] if any(failed(line) for line in lines) else [])
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
        _means(axes, x, list(found.values()), _style(method, methods))
    _expect(drawn, "comparison")
    axes.set_xscale("log")
    _ticks(axes, sorted(lines_by_steps))
    axes.set_xlabel("training steps (log scale)")
    axes.set_ylabel(f"{AP_LABEL}; mean and standard error")
    axes.grid(alpha=0.3)
    _legend(drawing, drawn, methods)
    return drawing


def precision_against(lines: Iterable[Line], fields: Sequence[str]) -> Figure:
    """AP against other fields, a panel each: a marker for every run that did not fail.

    Each panel's title has Pearson's correlation over all these runs.

    Args:
        lines: of one study and one number of steps; the sweep in it is passed over.
        fields: of a line, by the names of `bckd.studies.statistics.values`.

    Raises:
        InputError: a run lacks a field, or no run has both numbers.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    drawing = figure(WIDTH, 4.4)
    panels = drawing.subplots(1, len(fields), sharey=True, squeeze=False).ravel()
    methods = methods_of(lines)
    for panel, field in zip(panels, fields, strict=True):
        drawn, all_points = [], []
        for method in methods:
            across, up = values(lines, method, field), values(lines, method)
            points = [(across[s], 100 * up[s]) for s in up if math.isfinite(across[s] + up[s])]
            if points:
                drawn.append(method)
                all_points += points
                style = _style(method, methods)
                edge = {"s": 50, "alpha": 0.8, "edgecolors": "white", "linewidths": 0.6}
                panel.scatter(*_columns(points), c=style["color"], marker=style["marker"], **edge)
        _expect(drawn, "comparison")
        if len(all_points) > 2:
            correlation = np.corrcoef(*_columns(all_points))[0, 1]
            panel.set_title(f"correlation {correlation:+.2f}", fontsize=10)
        panel.set_xlabel(LABELS.get(field, field))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].set_ylabel(AP_LABEL)
    _legend(drawing, drawn, methods)
    return drawing


def f1_curves(lines: Iterable[Line], methods: Sequence[str]) -> Figure:
    """F1 at IoU .5 over the score threshold of the detections kept: means and standard errors.

    Raises:
        InputError: no method has a run.
    """
    lines = [x for x in lines if x["part"] == "comparison" and not failed(x)]
    drawn = [method for method in methods if any(x["method"] == method for x in lines)]
    _expect(drawn, "comparison")
    drawing = figure(WIDTH, 4.2)
    axes = drawing.subplots()
    for method in drawn:
        runs = [x["f1"] for x in lines if x["method"] == method]
        thresholds = sorted(runs[0], key=float)
        found = [summarise(run[threshold] for run in runs) for threshold in thresholds]
        _means(axes, [float(x) for x in thresholds], found, _style(method, drawn))
    axes.set_xlabel("score threshold")
    axes.set_ylabel("F1 at IoU .5")
    axes.grid(alpha=0.3)
    _legend(drawing, drawn, drawn)
    return drawing


def error_bars(lines: Iterable[Line], methods: Sequence[str]) -> Figure:
    """AP50 lost to each of TIDE's error types: a group a type, a bar a method, standard errors.

    Raises:
        InputError: no method has a run.
    """
    lines = list(lines)
    drawn = [m for m in methods if summarise(values(lines, m, "tide.Cls").values()).count]
    _expect(drawn, "comparison")
    drawing = figure(WIDTH, 4.4)
    axes = drawing.subplots()
    width = 0.8 / len(drawn)
    for place, method in enumerate(drawn):
        found = [
            summarise(100 * value for value in values(lines, method, f"tide.{kind}").values())
            for kind in TIDE
        ]
        x = [group + width * (place + 0.5) - 0.4 for group in range(len(TIDE))]
        colour_of = _style(method, methods)["color"]
        error = {"elinewidth": 1, "ecolor": "0.25", "capsize": 2}
        axes.bar(
            x,
            [summary.mean for summary in found],
            0.92 * width,
            yerr=[summary.error for summary in found],
            color=colour_of,
            error_kw=error,
        )
    axes.set_xticks(range(len(TIDE)), [f"{kind}\n{words}" for kind, words in TIDE.items()])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("error type of TIDE")
    axes.set_ylabel("AP50 lost to the type, points;\nmean and standard error")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    _legend(drawing, drawn, methods, bars=True)
    return drawing


def gradient_share_curves(records: dict[str, list[dict[str, Any]]]) -> Figure:
    """The background's share of each loss term's class-logit gradient: a panel a method.

    Args:
        records: by method, dicts of "step" and "gradients": {term: {"foreground": size,
            "background": size}}; records without gradients, such as those of an evaluation,
            are passed over, and so is a term whose gradient is 0.

    Raises:
        InputError: no record has a gradient.
    """
    shares = {method: _shares(found) for method, found in records.items()}
    terms = list(dict.fromkeys(term for found in shares.values() for term in found))
    terms.sort(key=lambda term: list(TITLES).index(term) if term in TITLES else len(TITLES))
    if not terms:
        raise InputError("no record has the gradients of a loss term; expected at least one")
    columns = min(len(shares), 3)
    rows = -(-len(shares) // columns)
    drawing = figure(max(WIDTH * columns / 3, 5.5), 0.9 + 2.5 * rows)
    panels = drawing.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    handles: dict[str, Any] = {}
    for panel, (method, found) in zip(panels, shares.items(), strict=False):
        for place, term in enumerate(terms):
            if term in found:
                steps, share = _columns(found[term])
                marker = "o" if len(steps) == 1 else ""
                dashes = ("-", "--", "-.", ":")[place % 4]
                style = {
                    "color": colour(place),
                    "linestyle": dashes,
                    "marker": marker,
                    "linewidth": 1.9,
                }
                (handles[term],) = panel.plot(steps, share, **style, label=TITLES.get(term, term))
        panel.set_title(_name(method), fontsize=10)
        panel.tick_params(labelsize=8, labelbottom=True)
        panel.set_ylim(-3, 103)
        panel.grid(alpha=0.3)
    for panel in panels[len(shares) :]:
        panel.set_axis_off()
    drawing.supxlabel("training step", fontsize=10)
    drawing.supylabel("background's share of the\nclass-logit gradient, %", fontsize=10)
    found_terms = [handles[term] for term in terms]
    location = "outside upper center"
    drawing.legend(handles=found_terms, loc=location, ncols=min(len(terms), 4), fontsize=9)
    return drawing


def _shares(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, percent of the background) by term."""
    shares: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for term, size in record.get("gradients", {}).items():
            parts = [size["foreground"], size["background"]]
            # None: a number that JSON can't express.
            if None not in parts and sum(parts) > 0:
                shares.setdefault(term, []).append((record["step"], 100 * parts[1] / sum(parts)))
    return shares


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _name(method: str) -> str:
    return "no distillation" if method == "none" else method


def _expect(methods: Sequence[str], part: str) -> None:
    if not methods:
        raise InputError(f"there is no run of a {part} to draw; expected at least one")


def _style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Colour and marker; one that is not listed takes those of its place among such `methods`."""
    if method in METHOD_COLOURS:
        return {"color": METHOD_COLOURS[method], "marker": METHOD_MARKERS[method]}
    place = [name for name in methods if name not in METHOD_COLOURS].index(method)
    spare = place % len(SPARE_COLOURS)
    return {"color": SPARE_COLOURS[spare], "marker": "<>pd*"[spare]}


def _interval(axes: Axes, found: Difference, y: float, method: str, methods: Sequence[str]) -> None:
    """A marker with its interval; one pair has no interval."""
    style = _style(method, methods)
    if math.isfinite(found.low):
        ends = [100 * found.low, 100 * found.high]
        axes.plot(ends, [y, y], color=style["color"], linewidth=1.8, zorder=2)
    edge = {"markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot([100 * found.mean], [y], **style, **edge, linestyle="", zorder=3)


def _means(axes: Axes, x: Sequence[float], found: Sequence[Summary], style: dict[str, Any]) -> None:
    """A line through means, with a standard error where there is one."""
    means, errors = [s.mean for s in found], [s.error for s in found]
    axes.errorbar(x, means, yerr=errors, **style, capsize=3, linewidth=1.6, markersize=6)


def _ticks(axes: Axes, places: Sequence[float]) -> None:
    """Ticks of a log axis at the measured places alone."""
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)


def _legend(
    drawing: Figure,
    drawn: Sequence[str],
    methods: Sequence[str],
    further: Sequence[Artist] = (),
    bars: bool = False,
) -> None:
    """One entry a method above the panel, four a row at most."""
    handles: list[Artist] = []
    for method in drawn:
        style, label = _style(method, methods), _name(method)
        mark = Line2D([], [], **style, linestyle="", markersize=8, label=label)
        handles.append(Patch(color=style["color"], label=label) if bars else mark)
    handles += further
    location = "outside upper center"
    drawing.legend(handles=handles, loc=location, ncols=min(len(handles), 4), fontsize=9)

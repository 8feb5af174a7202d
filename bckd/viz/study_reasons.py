"""Figures of a study: what AP moves with, which errors are mended, where the gradient goes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bckd.reports.titles import TITLES
from bckd.studies.statistics import Line, failed, methods_of, summarise, values
from bckd.studies.tables import TIDE
from bckd.system.errors import InputError
from bckd.viz.methods import (
    AP_LABEL,
    METHOD_COLOURS,
    SPARE_COLOURS,
    WIDTH,
    expect_methods,
    method_legend,
    name_of,
    plot_means,
    style_of,
)
from bckd.viz.style import figure

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
# A loss term has the colour of the method that adds it to the supervised loss.
TERM_COLOURS = {
    "qfl": METHOD_COLOURS["none"],
    "softmax": METHOD_COLOURS["softmax"],
    "binary": METHOD_COLOURS["L_cls"],
}


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
                style = style_of(method, methods)
                edge = {"s": 50, "alpha": 0.8, "edgecolors": "white", "linewidths": 0.6}
                panel.scatter(*_columns(points), c=style["color"], marker=style["marker"], **edge)
        expect_methods(drawn, "comparison")
        if len(all_points) > 2:
            correlation = np.corrcoef(*_columns(all_points))[0, 1]
            panel.set_title(f"correlation {correlation:+.2f}", fontsize=10)
        panel.set_xlabel(LABELS.get(field, field))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].set_ylabel(AP_LABEL)
    method_legend(drawing, drawn, methods)
    return drawing


def f1_curves(lines: Iterable[Line], methods: Sequence[str]) -> Figure:
    """F1 at IoU .5 over the score threshold of the detections kept: means and standard errors.

    Raises:
        InputError: no method has a run.
    """
    lines = [x for x in lines if x["part"] == "comparison" and not failed(x)]
    drawn = [method for method in methods if any(x["method"] == method for x in lines)]
    expect_methods(drawn, "comparison")
    drawing = figure(WIDTH, 4.2)
    axes = drawing.subplots()
    for method in drawn:
        runs = [x["f1"] for x in lines if x["method"] == method]
        thresholds = sorted(runs[0], key=float)
        found = [summarise(run[threshold] for run in runs) for threshold in thresholds]
        plot_means(axes, [float(x) for x in thresholds], found, style_of(method, drawn))
    axes.set_xlabel("score threshold")
    axes.set_ylabel("F1 at IoU .5")
    axes.grid(alpha=0.3)
    method_legend(drawing, drawn, drawn)
    return drawing


def error_bars(lines: Iterable[Line], methods: Sequence[str], strict: bool = False) -> Figure:
    """AP50 lost to each of TIDE's error types: a group a type, a bar a method, standard errors.

    Args:
        strict: AP75 in place of AP50.

    Raises:
        InputError: no method has a run.
    """
    lines, measure = list(lines), "tide75" if strict else "tide"
    drawn = [m for m in methods if summarise(values(lines, m, f"{measure}.Cls").values()).count]
    expect_methods(drawn, "comparison")
    drawing = figure(WIDTH, 4.4)
    axes = drawing.subplots()
    width = 0.8 / len(drawn)
    for place, method in enumerate(drawn):
        found = [
            summarise(100 * value for value in values(lines, method, f"{measure}.{kind}").values())
            for kind in TIDE
        ]
        x = [group + width * (place + 0.5) - 0.4 for group in range(len(TIDE))]
        colour_of = style_of(method, methods)["color"]
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
    axes.set_ylabel(f"AP{75 if strict else 50} lost to the type, points;\nmean and standard error")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    method_legend(drawing, drawn, methods, bars=True)
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
                    "color": TERM_COLOURS.get(term, SPARE_COLOURS[place % len(SPARE_COLOURS)]),
                    "linestyle": dashes,
                    "marker": marker,
                    "linewidth": 1.9,
                }
                (handles[term],) = panel.plot(steps, share, **style, label=TITLES.get(term, term))
        panel.set_title(name_of(method), fontsize=10)
        panel.tick_params(labelsize=8, labelbottom=True)
        panel.set_ylim(-3, 103)
        panel.grid(alpha=0.3)
    for panel in panels[len(shares) :]:
        panel.set_axis_off()
    drawing.supxlabel("training step", fontsize=10)
    drawing.supylabel("background's share of the\nclass-logit gradient, %", fontsize=10)
    found_terms = [handles[term] for term in terms]
    columns = min(len(terms), 4)
    drawing.legend(handles=found_terms, loc="outside upper center", ncols=columns, fontsize=9)
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

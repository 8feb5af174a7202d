"""Figures of the notebook on numbers: AP by IoU, TIDE, reliability, intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bckd.evaluation.error_analysis import BINS, TIDE_ERRORS, ErrorAnalysis
from bckd.studies.tables import TIDE
from bckd.system.errors import InputError
from bckd.viz.methods import SPARE_COLOURS, WIDTH, name_of, style_of
from bckd.viz.style import ROLE_COLOURS, Style, figure

# Detectors that are no method of a study.
TEACHER = {"color": ROLE_COLOURS["teacher"], "marker": "o"}
DETECTORS = {
    "teacher": TEACHER,
    "the scenes' teacher": TEACHER,
    "NanoDet-m": {"color": SPARE_COLOURS[0], "marker": "s"},
}
GROUPS: tuple[Style, ...] = (
    {"color": "0.35", "marker": "o"},
    {"color": SPARE_COLOURS[3], "marker": "s"},
)


def precision_over_iou(curves: dict[str, Sequence[float]], ious: Sequence[float]) -> Figure:
    """AP at every IoU threshold: a line a detector, its mean dashed.

    Args:
        curves: by name of the detector, AP in 0..1 at each of `ious`.
        ious: the thresholds.
    """
    drawing = figure(6.6, 3.6)
    axes = drawing.subplots()
    for name, style in _styles(curves).items():
        percent = 100 * np.asarray(curves[name])
        axes.plot(ious, percent, linewidth=1.8, label=name_of(name), **style)
        axes.axhline(percent.mean(), linestyle="--", linewidth=1, color=style["color"])
    axes.set_xlabel("IoU from which on a box counts as right")
    axes.set_ylabel("AP at this IoU, %\n(dashed: the mean, AP)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return drawing


def tide_bars(analyses: dict[str, ErrorAnalysis]) -> Figure:
    """AP50 to be gained by mending each of TIDE's error types: a group a type, a bar a detector."""
    drawing = figure(WIDTH, 3.9)
    axes = drawing.subplots()
    width = 0.8 / len(analyses)
    groups = np.arange(len(TIDE_ERRORS))
    for place, (name, style) in enumerate(_styles(analyses).items()):
        gains = [100 * analyses[name].tide[kind] for kind in TIDE_ERRORS]
        x = groups + width * (place + 0.5) - 0.4
        bars = axes.bar(x, gains, 0.92 * width, color=style["color"], label=name_of(name))
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    axes.set_xticks(groups, [f"{kind}\n{TIDE[kind]}" for kind in TIDE_ERRORS])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("AP50 to be gained, points")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    legend: Style = {"loc": "outside upper center", "ncols": len(analyses), "fontsize": 9}
    drawing.legend(*axes.get_legend_handles_labels(), **legend)
    return drawing


def reliability_diagrams(analyses: dict[str, ErrorAnalysis]) -> Figure:
    """Accuracy over the mean score of each bin, a panel a detector; below, how many are in it.

    On the diagonal a score is the share of right detections.

    Raises:
        InputError: a detector has no detection.
    """
    silent = [name for name, analysis in analyses.items() if not analysis.reliability]
    if silent:
        raise InputError(f"{silent[0]} has no detection; expected at least one")
    drawing = figure(WIDTH, 3.5)
    grid = drawing.subplots(
        2, len(analyses), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1)
    )
    for (above, below), (name, style) in zip(grid.T, _styles(analyses).items(), strict=True):
        analysis, own = analyses[name], style["color"]
        confidence, accuracy, count = np.array(analysis.reliability).T
        above.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
        above.vlines(confidence, confidence, accuracy, color=own, alpha=0.35, linewidth=5)
        above.plot(confidence, accuracy, color=own, marker="o", markersize=4, linewidth=1.5)
        above.set_title(
            f"{name_of(name)}\ncalibration error {analysis.calibration_error:.3f}", fontsize=9
        )
        above.set_aspect("equal")
        above.set_xlim(0, 1)
        above.set_ylim(0, 1)
        below.bar(confidence, count, 0.8 / BINS, color=own)
        below.set_yscale("log")
        below.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        below.set_xlabel("mean score of the bin", fontsize=9)
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
    grid[0, 0].set_ylabel("share of right\ndetections", fontsize=9)
    grid[1, 0].set_ylabel("detections", fontsize=9)
    return drawing


def interval_plot(
    groups: dict[str, dict[str, tuple[float, float, float]]], label: str = "difference of AP"
) -> Figure:
    """Estimates with their intervals: a row each, a colour a group, in points.

    Args:
        groups: by title of the group and of the row, (estimate, low, high) in 0..1.
        label: what is estimated.
    """
    rows = sum(len(group) for group in groups.values())
    drawing = figure(WIDTH, 1.2 + 0.34 * rows)
    axes = drawing.subplots()
    axes.axvline(0, color="black", linewidth=1)
    titles: list[str] = []
    handles = []
    for number, (title, group) in enumerate(groups.items()):
        style = GROUPS[number % len(GROUPS)]
        handles.append(Line2D([], [], label=title, linestyle="", markersize=7, **style))
        for name, (estimate, low, high) in group.items():
            y = len(titles)
            titles.append(name)
            axes.plot([100 * low, 100 * high], [y, y], color=style["color"], linewidth=1.8)
            axes.plot([100 * estimate], [y], markersize=7, **style)
    axes.set_yticks(range(rows), titles, fontsize=9)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{label}, points; estimate and 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["left", "right", "top"]].set_visible(False)
    drawing.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9)
    return drawing


def _styles(names: Iterable[str]) -> dict[str, Style]:
    """Colour and marker by name: a detector's or a method's own, or spare ones."""
    names = [*names]
    others = [name for name in names if name not in DETECTORS]
    return {name: DETECTORS.get(name) or style_of(name, others) for name in names}

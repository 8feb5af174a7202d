"""Figures of the notebook on a whole run: AP along the way, and seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from bckd.studies.statistics import Line, summarise, values
from bckd.system.errors import InputError
from bckd.viz.methods import AP_LABEL, WIDTH, name_of, style_of
from bckd.viz.style import Style, figure


def precision_curves(logs: dict[str, list[dict[str, Any]]]) -> Figure:
    """AP over the steps of runs, from the evaluations in their logs.

    Args:
        logs: by method, the records of `bckd.training.run_log.read_log`.

    Raises:
        InputError: a log has no evaluation.
    """
    drawing = figure(0.7 * WIDTH, 3.2)
    axes = drawing.subplots()
    for method, records in logs.items():
        found = [r for r in records if r.get("metrics", {}).get("AP") is not None]
        if not found:
            raise InputError(f"the log of {method!r} has no AP; expected evaluations in it")
        steps = [record["step"] for record in found]
        precision = [100 * record["metrics"]["AP"] for record in found]
        axes.plot(
            steps, precision, **style_of(method, list(logs)), linewidth=1.6, label=name_of(method)
        )
    axes.set_xlabel("steps of training")
    axes.set_ylabel(AP_LABEL)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return drawing


def seed_lines(lines: Iterable[Line], methods: Sequence[str], seed: int | None = None) -> Figure:
    """AP of every seed, a column a method, a thin line a seed; the mean as a bar.

    Args:
        lines: of one study and one number of steps; the sweep in it is passed over.
        methods: the columns, from left to right.
        seed: one that is drawn thick, or None.

    Raises:
        InputError: a method has no run in the comparison.
    """
    lines = list(lines)
    found = {method: values(lines, method) for method in methods}
    absent = [method for method, by_seed in found.items() if not by_seed]
    if absent:
        raise InputError(f"the comparison has no run of {absent[0]!r}; expected one at least")
    drawing = figure(0.7 * WIDTH, 3.6)
    axes = drawing.subplots()
    for each in sorted(set.intersection(*(set(by_seed) for by_seed in found.values()))):
        height = [100 * found[method][each] for method in methods]
        thick = each == seed
        style: Style = {"color": "0.25" if thick else "0.7", "linewidth": 2.2 if thick else 1.0}
        axes.plot(range(len(methods)), height, **style, zorder=1)
        if thick:
            beside: Style = {"fontsize": 9, "va": "center", "ha": "left"}
            axes.text(len(methods) - 0.9, height[-1], f"seed {each}", **beside)
    for place, method in enumerate(methods):
        heights = [100 * value for value in found[method].values()]
        own = style_of(method, methods)
        dots = own | {"linestyle": "none", "markersize": 7, "zorder": 3}
        axes.plot([place] * len(heights), heights, **dots)
        mean = summarise(heights).mean
        bar: Style = {"color": own["color"], "linewidth": 3, "zorder": 2}
        axes.plot([place - 0.18, place + 0.18], [mean, mean], **bar)
        axes.text(place - 0.21, mean, f"{mean:.1f}", fontsize=9, ha="right", va="center")
    axes.set_xticks(range(len(methods)), [name_of(method) for method in methods])
    axes.set_xlim(-0.6, len(methods) - 0.5)
    axes.set_ylabel(AP_LABEL)
    axes.grid(axis="y", alpha=0.3)
    return drawing

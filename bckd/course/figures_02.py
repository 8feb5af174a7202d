"""Figures of the course's second notebook: curves, and shifts of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bckd.system.errors import InputError
from bckd.viz.style import Style, colour, figure

WIDTH = 9.5  # inches, as the other figures
# Places in the palette: of methods as in the studies' figures, of others by first appearance.
COLOURS = {"none": 7, "softmax": 1, "binary": 4, "BCKD": 0, "teacher": 2}
SPARE_COLOURS = (5, 3, 2, 0, 1)
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), "dashdot", (0, (8, 2)))

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def line_panels(
    panels: Mapping[str, Series], xlabel: str, log: Sequence[str] = (), log_x: bool = False
) -> Figure:
    """Lines in panels side by side; a name has one colour and dash in all of them.

    A linear y axis starts just below 0 where no value is below it.

    Args:
        panels: by title, the (x, y) of every line by its name.
        xlabel: of all panels.
        log: titles of the panels with a logarithmic y axis; what is not above 0 is left out.
        log_x: logarithmic x axes, ticks where the data are.

    Raises:
        InputError: there is no panel, a title of `log` is none, or x and y differ in length.
    """
    _check_panels(panels, log)
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    drawing = figure(WIDTH, 3.0)
    grid = drawing.subplots(1, len(panels), squeeze=False)[0]
    handles = {}
    for axes, (title, series) in zip(grid, panels.items(), strict=True):
        for name, (x, y) in series.items():
            values = np.asarray(y, dtype=float)
            if title in log:
                values = np.where(values > 0, values, np.nan)
            (handles[name],) = axes.plot(x, values, label=name, **_style(name, names))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(xlabel, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if title in log:
            axes.set_yscale("log")
        elif axes.dataLim.ymin >= 0 and axes.dataLim.ymax > 0:
            axes.set_ylim(bottom=-0.03 * axes.dataLim.ymax)  # a line along 0 is seen
        if log_x:
            ticks = sorted({float(each) for x, _ in series.values() for each in x})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{each:g}" for each in ticks])
            axes.minorticks_off()
    if len(names) > 1:
        lines = [handles[name] for name in names]
        place: Style = {"loc": "outside lower center", "ncols": len(names), "handlelength": 3}
        drawing.legend(lines, names, fontsize=9, **place)
    return drawing


def shift_histogram(shifts: Mapping[str, np.ndarray], kinds: Mapping[str, np.ndarray]) -> Figure:
    """How far students' logits lie above the teacher's, location by location: a panel a kind.

    Args:
        shifts: by student, the mean over classes of l_s - l_t at every location, of one shape.
        kinds: by name, which locations belong to the panel: bool of the same shape.

    Raises:
        InputError: shapes differ, or a kind has no location.
    """
    for name, values in (*shifts.items(), *kinds.items()):
        expected = next(iter(shifts.values())).shape
        if np.shape(values) != expected:
            raise InputError(f"{name!r} has shape {np.shape(values)}; expected {expected}")
    for kind, where in kinds.items():
        if not np.any(where):
            raise InputError(f"no location is of the kind {kind!r}")
    together = np.concatenate([values.ravel() for values in shifts.values()])
    edges = np.linspace(together.min(), together.max(), 61)
    drawing = figure(WIDTH, 3.0)
    grid = drawing.subplots(1, len(kinds), squeeze=False)[0]
    for axes, (kind, where) in zip(grid, kinds.items(), strict=True):
        for name, values in shifts.items():
            found = values[where]
            share = np.histogram(found, edges)[0] / len(found)
            axes.stairs(share, edges, label=name, **_style(name, list(shifts)))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(kind, fontsize=10)
        axes.set_xlabel("mean over classes of $l_s - l_t$", fontsize=9)
        axes.tick_params(labelsize=8)
    grid[0].set_ylabel("share of the locations", fontsize=9)
    place: Style = {"loc": "outside lower center", "ncols": len(shifts), "handlelength": 3}
    drawing.legend(*grid[0].get_legend_handles_labels(), fontsize=9, **place)
    return drawing


def _check_panels(panels: Mapping[str, Series], log: Sequence[str]) -> None:
    if not panels:
        raise InputError("there is no panel to draw; expected at least one")
    stray = [title for title in log if title not in panels]
    if stray:
        raise InputError(f"log names {stray[0]!r}, which is no panel; these are {list(panels)}")
    for title, series in panels.items():
        for name, (x, y) in series.items():
            if len(x) != len(y):
                raise InputError(f"{name!r} of {title!r} has {len(x)} x and {len(y)} y values")


def _style(name: str, names: Sequence[str]) -> Style:
    """Colour and dash of one of several series."""
    place = COLOURS.get(name)
    if place is None:
        spare = [each for each in names if each not in COLOURS].index(name)
        place = SPARE_COLOURS[spare % len(SPARE_COLOURS)]
    dash = DASHES[list(names).index(name) % len(DASHES)]
    return {"color": colour(place), "linestyle": dash, "linewidth": 1.8}

"""How a method looks in every figure: its colour, marker, name and entry in the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bckd.studies.statistics import Summary
from bckd.system.errors import InputError
from bckd.viz.style import PALETTE, Style

BLUE, ORANGE, _, PINK, SKY, _, _, BLACK = PALETTE
# The same method has the same colour in every figure, and none has the teacher's green or the
# student's vermilion. The palette's yellow is too pale for a line on white.
METHOD_COLOURS = {
    "none": BLACK,
    "softmax": ORANGE,
    "LD": PINK,
    "L_cls": SKY,
    "L_loc": "#7B3294",
    "softmax + L_loc": "#8B5A2B",
    "BCKD": BLUE,
    "self": "#8C8C8C",
}
# A second mark of the method, for those who see the colours differently.
METHOD_MARKERS = dict(zip(METHOD_COLOURS, "osP^vXDh", strict=True))
# Of methods that are not listed, by their place in a figure: none of the colours above.
SPARE_COLOURS = ("#B2182B", "#9A9A00", "#4D4D4D", "#C2A5CF", "#01665E")
WIDTH = 9.5  # inches, as the other figures
AP_LABEL = "AP, %"


def name_of(method: str) -> str:
    """The method in words."""
    return "no distillation" if method == "none" else method


def style_of(method: str, methods: Sequence[str]) -> Style:
    """Colour and marker; one that is not listed takes those of its place among such `methods`."""
    if method in METHOD_COLOURS:
        return {"color": METHOD_COLOURS[method], "marker": METHOD_MARKERS[method]}
    place = [name for name in methods if name not in METHOD_COLOURS].index(method)
    spare = place % len(SPARE_COLOURS)
    return {"color": SPARE_COLOURS[spare], "marker": "<>pd*"[spare]}


def expect_methods(methods: Sequence[str], part: str) -> None:
    """Raise InputError where no method has a run of this part of a study."""
    if not methods:
        raise InputError(f"there is no run of a {part} to draw; expected at least one")


def plot_means(
    axes: Axes, x: Sequence[float], found: Sequence[Summary], style: dict[str, Any]
) -> None:
    """A line through means, with a standard error where there is one."""
    means, errors = [s.mean for s in found], [s.error for s in found]
    axes.errorbar(x, means, yerr=errors, **style, capsize=3, linewidth=1.6, markersize=6)


def method_legend(
    drawing: Figure,
    drawn: Sequence[str],
    methods: Sequence[str],
    further: Sequence[Artist] = (),
    bars: bool = False,
) -> None:
    """One entry a method above the panel, four a row at most.

    Args:
        drawn: the methods in the picture.
        methods: all that it was asked for, by which unlisted ones take their colours.
        further: entries behind the methods'.
        bars: patches of colour in place of markers.
    """
    handles: list[Artist] = []
    for method in drawn:
        style, label = style_of(method, methods), name_of(method)
        mark = Line2D([], [], **style, linestyle="", markersize=8, label=label)
        handles.append(Patch(color=style["color"], label=label) if bars else mark)
    handles += further
    columns = min(len(handles), 4)
    drawing.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=9)

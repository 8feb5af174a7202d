"""Rows of differences: names from above, markers in points, an interval where there is one."""

from __future__ import annotations

import pytest

from bckd.studies.statistics import paired
from bckd.viz.rows import interval, row_panel
from bckd.viz.style import figure


def test_a_row_has_its_name_its_marker_and_its_interval() -> None:
    axes = figure(3, 2).subplots()
    several = paired({0: 0.3, 1: 0.34}, {0: 0.29, 1: 0.31})
    one = paired({0: 0.4}, {0: 0.3})
    interval(axes, several, 0, "#0072B2", "D", "AP")
    interval(axes, one, 1, "#E69F00")
    row_panel(axes, ["several", "one"], "a title")
    line, first, second, zero = axes.lines
    assert list(line.get_xdata()) == pytest.approx([100 * several.low, 100 * several.high])
    assert (first.get_xdata()[0], first.get_marker()) == (pytest.approx(2.0), "D")
    assert (second.get_xdata()[0], second.get_ydata()[0]) == (pytest.approx(10.0), 1)
    assert list(zero.get_xdata()) == [0, 0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["several", "one"]
    assert axes.get_ylim() == (1.5, -0.5), "the first row is on top"
    assert axes.get_legend_handles_labels()[1] == ["AP"]

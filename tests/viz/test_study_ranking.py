"""The figure of many methods shows each one's differences, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bckd.studies.noise import difference_on_images
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS
from bckd.viz.study_ranking import OTHERS, ranking

Make = Callable[..., Any]  # a maker from conftest.py


@pytest.fixture
def lines(comparison: Make) -> list[dict[str, Any]]:
    found = comparison(0.0, "none", "a field's method", "BCKD")
    for n, line in enumerate(found):
        tenths = {
            field: [line["AP"] + shift + 0.001 * ((n + k) % 3) for k in range(10)]
            for field, shift in (("AP", 0.0), ("AP50", 0.02), ("AP75", 0.01))
        }
        line |= {"AP50": line["AP"] + 0.1, "AP75": line["AP"] + 0.005 * n, "without_tenth": tenths}
    return found


def test_rows_are_ordered_and_hold_the_intervals(lines: list[dict[str, Any]]) -> None:
    figure = ranking(lines)
    figure.draw_without_rendering()
    first, second, third = figure.axes
    names = ["BCKD", "a field's method"]
    assert [text.get_text() for text in first.get_yticklabels()] == names
    assert first.get_ylim()[0] > first.get_ylim()[1], "the best is the top row"
    for axes, field in ((first, "AP"), (second, "AP50"), (third, "AP75")):
        assert axes.get_title(loc="left") == field
        intervals = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
        drawn = [x for x in intervals if len(x.get_xdata()) == 2]
        for line, name in zip(drawn, names, strict=True):
            found = difference_on_images(lines, name, "none", field)
            assert list(line.get_xdata()) == pytest.approx([100 * found.low, 100 * found.high])
            assert line.get_color() == METHOD_COLOURS.get(name, OTHERS)
        band = difference_on_images(lines, "BCKD", "none", field)
        ends = axes.patches[0].get_extents().transformed(axes.transData.inverted())
        assert (ends.x0, ends.x1) == pytest.approx((100 * band.low, 100 * band.high))
    assert "no distillation" in figure.get_supxlabel()


@pytest.mark.parametrize("kept", [("none",), ("BCKD",)])
def test_too_few_methods_are_told(lines: list[dict[str, Any]], kept: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="needs runs of 'none' and of other methods"):
        ranking([line for line in lines if line["method"] in kept])

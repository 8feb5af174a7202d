"""What the figures of the numbers show."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from bckd.course.figures_08 import (
    interval_plot,
    precision_over_iou,
    reliability_diagrams,
    tide_bars,
)
from bckd.evaluation.error_analysis import TIDE_ERRORS, ErrorAnalysis
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS


def analysis(gain: float = 0.1) -> ErrorAnalysis:
    """Six equal gains, and two bins: .15 (a tenth right), .85 (all right)."""
    tide = dict.fromkeys(TIDE_ERRORS, gain)
    return ErrorAnalysis(tide, tide, 0.08, ((0.15, 0.1, 20), (0.85, 1.0, 10)), {"0.5": 0.6}, 0.6)


def test_precision_over_iou_has_a_line_and_its_mean() -> None:
    drawing = precision_over_iou({"a": [0.6, 0.2], "b": [0.5, 0.1]}, [0.5, 0.75])
    lines = drawing.axes[0].lines
    assert list(lines[0].get_ydata()) == [60, 20]
    assert lines[1].get_ydata()[0] == pytest.approx(40)
    assert lines[3].get_ydata()[0] == pytest.approx(30)


def test_tide_bars_are_points() -> None:
    drawing = tide_bars({"a": analysis(), "b": analysis(0.02)})
    heights = [bar.get_height() for bar in drawing.axes[0].patches]
    assert heights == pytest.approx([10] * 6 + [2] * 6)


def test_a_detector_has_one_colour_in_every_figure() -> None:
    bars = tide_bars({"teacher": analysis(), "NanoDet-m": analysis()}).axes[0].patches
    panels = reliability_diagrams({"BCKD": analysis(), "NanoDet-m": analysis()}).axes
    curves = precision_over_iou({"NanoDet-m": [0.5]}, [0.5]).axes[0].lines
    own = to_hex(curves[0].get_color())
    assert to_hex(bars[-1].get_facecolor()) == own == to_hex(panels[1].lines[1].get_color())
    assert to_hex(bars[0].get_facecolor()) != own
    assert to_hex(panels[0].lines[1].get_color()) == METHOD_COLOURS["BCKD"].lower()


class TestReliability:
    def test_bins_and_counts(self) -> None:
        drawing = reliability_diagrams({"a": analysis(), "b": analysis()})
        above, below = drawing.axes[0], drawing.axes[2]
        assert above.get_title() == "a\ncalibration error 0.080"
        assert list(above.lines[1].get_xdata()) == [0.15, 0.85]
        assert list(above.lines[1].get_ydata()) == [0.1, 1.0]
        assert [bar.get_height() for bar in below.patches] == [20, 10]

    def test_no_detection(self) -> None:
        nothing = ErrorAnalysis({}, {}, float("nan"), (), {}, 0.0)
        with pytest.raises(InputError, match="silent has no detection"):
            reliability_diagrams({"a": analysis(), "silent": nothing})


def test_interval_plot_is_in_points() -> None:
    groups = {"images": {"a": (0.01, -0.02, 0.04)}, "seeds": {"a": (0.03, 0.0, 0.06)}}
    (axes,) = interval_plot(groups).axes
    interval, estimate = axes.lines[1], axes.lines[2]
    assert list(interval.get_xdata()) == pytest.approx([-2, 4])
    assert list(estimate.get_xdata()) == pytest.approx([1])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "a"]

"""The figures of a study show the numbers they are given, and nothing overlaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bckd.errors import InputError
from bckd.studies.statistics import ORDER, Difference, paired, summarise
from bckd.studies.tables import TIDE
from bckd.viz.study_figures import (
    METHOD_COLOURS,
    SPARE_COLOURS,
    difference_map,
    error_bars,
    f1_curves,
    gradient_share_curves,
    precision_against,
    schedule_curves,
    sweep_curves,
)

SEEDS = range(3)


def line(
    method: str, seed: int, ap: float | None, scale: float = 1.0, part: str = "comparison"
) -> dict[str, Any]:
    base = {"part": part, "method": method, "scale": scale, "seed": seed, "AP": ap}
    if ap is None:
        return {**base, "failed": "the loss is not finite at step 3"}
    tide = {kind: 0.01 * n + 0.1 * ap for n, kind in enumerate(TIDE)}
    return {**base, "score_error": 0.04 - ap / 20, "logit_shift": seed, "tide": tide}


def comparison(gain: float = 0.0, *methods: str) -> list[dict[str, Any]]:
    return [
        line(method, seed, 0.3 + gain + 0.02 * n + 0.003 * seed * seed)
        for n, method in enumerate(methods or ("none", "softmax", "BCKD"))
        for seed in SEEDS
    ]


def sweep() -> list[dict[str, Any]]:
    aps = {0.25: (0.30, 0.31), 1.0: (0.33, 0.34), 4.0: (0.35, None)}
    return [
        line(method, 100 + n, None if ap is None else ap + gain, scale, "sweep")
        for method, gain in (("softmax", 0.0), ("BCKD", 0.01))
        for scale, runs in aps.items()
        for n, ap in enumerate(runs)
    ]


def legend_of(figure: Figure) -> list[str]:
    """Entries of the one legend, which lies in the picture and outside the panels."""
    (legend,) = figure.legends
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    for axes in figure.axes:
        assert not box.overlaps(axes.get_tightbbox())
    return [text.get_text() for text in legend.get_texts()]


def lines_by_colour(figure: Figure) -> dict[str, Any]:
    """The first line through two points or more of each colour."""
    found: dict[str, Any] = {}
    for drawn in figure.axes[0].lines:
        if len(drawn.get_xdata()) > 1:
            found.setdefault(drawn.get_color(), drawn)
    return found


class TestColours:
    def test_each_method_has_its_own(self) -> None:
        assert set(METHOD_COLOURS) == set(ORDER)
        assert len(set(METHOD_COLOURS.values())) == len(ORDER)

    def test_a_method_keeps_its_colour_whatever_is_beside_it(self) -> None:
        for methods in (("BCKD",), ("none", "softmax", "BCKD")):
            figure = precision_against(comparison(0, *methods), ["score_error"])
            assert to_hex(figure.axes[0].collections[-1]) == METHOD_COLOURS["BCKD"].lower()

    def test_a_method_that_is_not_listed_takes_a_spare_colour(self) -> None:
        figure = precision_against(comparison(0, "none", "mine"), ["score_error"])
        assert to_hex(figure.axes[0].collections[-1]) == SPARE_COLOURS[0].lower()


def to_hex(collection: Any) -> str:
    red, green, blue = (round(255 * part) for part in collection.get_facecolor()[0][:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


class TestDifferenceMap:
    def regimes(self) -> dict[str, dict[str, Difference]]:
        none = {seed: 0.3 for seed in SEEDS}
        found = {
            name: paired({s: 0.3 + gain + 0.01 * s for s in SEEDS}, none)
            for name, gain in (("BCKD", 0.03), ("softmax", -0.02))
        }
        one = {"BCKD": paired({0: 0.4}, {0: 0.3})}
        return {"six classes": found, "one class, one seed": one, "nothing yet": {}}

    def test_markers_and_intervals(self) -> None:
        figure = difference_map(self.regimes(), "none")
        (axes,) = figure.axes
        intervals = lines_by_colour(figure)
        for method, found in self.regimes()["six classes"].items():
            ends = intervals[METHOD_COLOURS[method]].get_xdata()
            assert ends == pytest.approx([100 * found.low, 100 * found.high])
        marks = [
            (x.get_xdata()[0], x.get_ydata()[0]) for x in axes.lines if len(x.get_xdata()) == 1
        ]
        assert [x for x, _ in marks] == pytest.approx([-1.0, 4.0, 10.0])
        assert [round(y) for _, y in marks] == [0, 0, 1], "each in the row of its regime"
        assert marks[0][1] != marks[1][1], "methods of a row are not on one another"

    def test_zero_rows_and_legend(self) -> None:
        figure = difference_map(self.regimes(), "none")
        (axes,) = figure.axes
        assert any(list(x.get_xdata()) == [0, 0] for x in axes.lines)
        assert [text.get_text() for text in axes.get_yticklabels()] == list(self.regimes())
        low, high = axes.get_ylim()
        assert low > high, "the first regime is the top row"
        assert legend_of(figure) == ["softmax", "BCKD"]
        assert "no distillation" in axes.get_xlabel() and "points" in axes.get_xlabel()

    def test_nothing_to_draw_is_told(self) -> None:
        with pytest.raises(InputError, match="no regime with a method"):
            difference_map({"base": {}}, "none")


class TestSweepCurves:
    def test_means_with_a_failed_run_as_0(self) -> None:
        figure = sweep_curves(sweep() + comparison())
        lines = lines_by_colour(figure)
        softmax = lines[METHOD_COLOURS["softmax"]]
        assert softmax.get_ydata() == pytest.approx([30.5, 33.5, 17.5])
        assert np.log(softmax.get_xdata()) == pytest.approx(np.log([0.25, 1, 4]), abs=0.1)
        assert lines[METHOD_COLOURS["BCKD"]].get_ydata() == pytest.approx([31.5, 34.5, 18.0])

    def test_every_seed_and_every_failure_has_a_mark(self) -> None:
        (axes,) = sweep_curves(sweep()).axes
        assert [len(dots.get_offsets()) for dots in axes.collections] == [5, 1, 5, 1]
        seeds = axes.collections[0].get_offsets()[:, 1].tolist()
        assert seeds == pytest.approx([30, 31, 33, 34, 35])
        low, high = axes.get_ylim()
        assert 28 < low < 30 and 36 < high < 38, "the axis spans the runs that did not fail"

    def test_axes_and_legend(self) -> None:
        figure = sweep_curves(sweep())
        (axes,) = figure.axes
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.25", "1", "4"]
        assert "AP, %" in axes.get_ylabel()
        assert legend_of(figure) == ["softmax", "BCKD", "failed run (AP 0)"]

    def test_no_cross_in_the_legend_without_a_failure(self) -> None:
        worked = [x for x in sweep() if x["AP"] is not None]
        assert legend_of(sweep_curves(worked)) == ["softmax", "BCKD"]

    def test_all_failed_is_drawn(self) -> None:
        failing = [line("LD", seed, None, 4.0, "sweep") for seed in SEEDS]
        assert legend_of(sweep_curves(failing)) == ["LD", "failed run (AP 0)"]

    def test_no_sweep_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of a sweep"):
            sweep_curves(comparison())


class TestScheduleCurves:
    def test_means_and_standard_errors(self) -> None:
        by_steps = {1200: comparison(0.05), 300: comparison()}
        figure = schedule_curves(by_steps, ["BCKD", "none", "LD"])
        (axes,) = figure.axes
        drawn = lines_by_colour(figure)[METHOD_COLOURS["BCKD"]]
        first, second = (
            summarise(100 * (0.34 + gain + 0.003 * s * s) for s in SEEDS) for gain in (0.0, 0.05)
        )
        assert drawn.get_ydata() == pytest.approx([first.mean, second.mean])
        assert np.log(drawn.get_xdata().astype(float)) == pytest.approx(
            np.log([300, 1200]), abs=0.05
        )
        (bars,) = axes.containers[0][2]
        low, high = bars.get_segments()[1][:, 1]
        assert (low, high) == pytest.approx(
            (second.mean - second.error, second.mean + second.error)
        )
        assert [text.get_text() for text in axes.get_xticklabels()] == ["300", "1200"]
        assert legend_of(figure) == ["BCKD", "no distillation"], "LD has no run"

    def test_a_method_may_be_absent_at_some_steps(self) -> None:
        figure = schedule_curves({300: comparison(), 600: comparison(0, "none")}, ["none", "BCKD"])
        own = [x for x in figure.axes[0].lines if x.get_color() == METHOD_COLOURS["BCKD"]]
        assert len(own[0].get_xdata()) == 1

    def test_nothing_to_draw_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            schedule_curves({300: comparison()}, ["LD"])


class TestScoreAgainstPrecision:
    def test_every_run_that_worked(self) -> None:
        lines = [*comparison(), line("softmax", 7, None), *sweep()]
        figure = precision_against(lines, ["score_error"])
        (axes,) = figure.axes
        points = np.concatenate([dots.get_offsets() for dots in axes.collections])
        aps = 0.01 * points[:, 1]
        assert sorted(aps) == pytest.approx(sorted(x["AP"] for x in comparison()))
        assert points[:, 0].tolist() == pytest.approx((0.04 - aps / 20).tolist())
        assert legend_of(figure) == ["no distillation", "softmax", "BCKD"]
        assert (axes.get_xlabel()[:11], axes.get_ylabel()) == ("score error", "AP, %")

    def test_another_field(self) -> None:
        (axes,) = precision_against(comparison(), ["tide.Loc"]).axes
        assert axes.get_xlabel() == "tide.Loc"

    def test_no_run_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            precision_against(sweep(), ["score_error"])

    def test_panels_with_their_correlation(self) -> None:
        panels = precision_against(comparison(), ["score_error", "seed"]).axes
        assert panels[0].get_title() == "correlation -1.00"
        assert len(panels) == 2 and panels[1].get_title() != panels[0].get_title()


class TestF1Curves:
    def test_means_over_the_runs(self) -> None:
        lines = [
            {**x, "f1": {"0.1": 0.2 + x["seed"] / 10, "0.3": 0.5}} for x in comparison(0, "BCKD")
        ]
        figure = f1_curves([*lines, line("BCKD", 7, None)], ["BCKD", "LD"])
        drawn = lines_by_colour(figure)[METHOD_COLOURS["BCKD"]]
        assert drawn.get_xdata().tolist() == [0.1, 0.3]
        assert drawn.get_ydata().tolist() == pytest.approx([0.3, 0.5])
        assert legend_of(figure) == ["BCKD"]

    def test_no_run_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            f1_curves(sweep(), ["BCKD"])


class TestErrorBars:
    def test_heights_and_errors(self) -> None:
        lines = [*comparison(), line("BCKD", 7, None)]
        figure = error_bars(lines, ["none", "BCKD", "LD"])
        (axes,) = figure.axes
        bars = [group for group in axes.containers if hasattr(group, "patches")]
        assert len(bars) == 2
        found = summarise(0.1 * 100 * (0.34 + 0.003 * s * s) for s in SEEDS)
        heights = [patch.get_height() for patch in bars[1]]
        assert heights == pytest.approx([found.mean + n for n in range(6)])
        segments = bars[1].errorbar[2][0].get_segments()
        ends = (found.mean - found.error, found.mean + found.error)
        assert tuple(segments[0][:, 1]) == pytest.approx(ends)
        assert legend_of(figure) == ["no distillation", "BCKD"]

    def test_bars_do_not_overlap_and_stand_over_their_type(self) -> None:
        (axes,) = error_bars(comparison(0, *ORDER), list(ORDER)).axes
        spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
        assert len(spans) == len(ORDER) * len(TIDE)
        assert all(a[1] < b[0] for a, b in zip(spans, spans[1:], strict=False))
        assert all(abs(sum(span) / 2 - n // len(ORDER)) < 0.5 for n, span in enumerate(spans))
        assert [text.get_text().split("\n")[0] for text in axes.get_xticklabels()] == list(TIDE)

    def test_no_run_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            error_bars(comparison(), ["LD"])


class TestGradientShareCurves:
    def records(self, *terms: str) -> list[dict[str, Any]]:
        sizes = [{"foreground": 1.0, "background": step / 10} for step in (10, 30)]
        records = [
            {"step": step, "gradients": dict.fromkeys(terms, size)}
            for step, size in zip((10, 30), sizes, strict=True)
        ]
        return [*records, {"step": 30, "metrics": {"AP": 0.1}}]

    def test_one_panel_a_method_and_one_line_a_term(self) -> None:
        figure = gradient_share_curves(
            {"none": self.records("qfl"), "BCKD": self.records("binary", "qfl")}
        )
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["no distillation", "BCKD"]
        assert [len(axes.lines) for axes in figure.axes] == [1, 2]
        assert legend_of(figure) == ["quality focal loss", "L_cls (binary)"]
        for drawn in figure.axes[1].lines:
            assert drawn.get_xdata().tolist() == [10, 30]
            assert drawn.get_ydata() == pytest.approx([50, 75])
        term = {axes.lines[0].get_color() for axes in figure.axes}
        assert len(term) == 1, "a term keeps its colour"

    def test_a_gradient_of_0_or_without_number_has_no_share(self) -> None:
        bad = [
            {"step": 1, "gradients": {"iou": {"foreground": 0.0, "background": 0.0}}},
            {"step": 2, "gradients": {"qfl": {"foreground": None, "background": 1.0}}},
        ]
        figure = gradient_share_curves({"BCKD": bad + self.records("qfl")})
        (drawn,) = figure.axes[0].lines
        assert drawn.get_xdata().tolist() == [10, 30]
        with pytest.raises(InputError, match="no record has the gradients"):
            gradient_share_curves({"BCKD": bad})

    def test_unused_panels_are_empty(self) -> None:
        figure = gradient_share_curves({name: self.records("qfl") for name in "abcd"})
        assert sum(axes.axison for axes in figure.axes) == 4 and len(figure.axes) == 6
        assert math.isclose(figure.axes[0].get_ylim()[1], 103)

"""Figures of what methods gain show the numbers they are given, and nothing overlaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bckd.studies.statistics import Difference, paired, summarise
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS
from bckd.viz.study_gains import difference_map, schedule_curves, sweep_curves

SEEDS = range(3)  # as in conftest.py
Make = Callable[..., Any]  # a maker or reader from conftest.py


class TestDifferenceMap:
    def regimes(self) -> dict[str, dict[str, Difference]]:
        none = {seed: 0.3 for seed in SEEDS}
        found = {
            name: paired({s: 0.3 + gain + 0.01 * s for s in SEEDS}, none)
            for name, gain in (("BCKD", 0.03), ("softmax", -0.02))
        }
        one = {"BCKD": paired({0: 0.4}, {0: 0.3})}
        return {"six classes": found, "one class, one seed": one, "nothing yet": {}}

    def test_markers_and_intervals(self, lines_by_colour: Make) -> None:
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

    def test_zero_rows_and_legend(self, legend_of: Make) -> None:
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
    def test_means_with_a_failed_run_as_0(
        self, comparison: Make, sweep: Make, lines_by_colour: Make
    ) -> None:
        figure = sweep_curves(sweep() + comparison())
        lines = lines_by_colour(figure)
        softmax = lines[METHOD_COLOURS["softmax"]]
        assert softmax.get_ydata() == pytest.approx([30.5, 33.5, 17.5])
        assert np.log(softmax.get_xdata()) == pytest.approx(np.log([0.25, 1, 4]), abs=0.1)
        assert lines[METHOD_COLOURS["BCKD"]].get_ydata() == pytest.approx([31.5, 34.5, 18.0])

    def test_every_seed_and_every_failure_has_a_mark(self, sweep: Make) -> None:
        (axes,) = sweep_curves(sweep()).axes
        assert [len(dots.get_offsets()) for dots in axes.collections] == [5, 1, 5, 1]
        seeds = axes.collections[0].get_offsets()[:, 1].tolist()
        assert seeds == pytest.approx([30, 31, 33, 34, 35])
        low, high = axes.get_ylim()
        assert 28 < low < 30 and 36 < high < 38, "the axis spans the runs that did not fail"

    def test_axes_and_legend(self, sweep: Make, legend_of: Make) -> None:
        figure = sweep_curves(sweep())
        (axes,) = figure.axes
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.25", "1", "4"]
        assert "AP, %" in axes.get_ylabel()
        assert legend_of(figure) == ["softmax", "BCKD", "failed run (AP 0)"]

    def test_no_cross_in_the_legend_without_a_failure(self, sweep: Make, legend_of: Make) -> None:
        worked = [x for x in sweep() if x["AP"] is not None]
        assert legend_of(sweep_curves(worked)) == ["softmax", "BCKD"]

    def test_all_failed_is_drawn(self, line: Make, legend_of: Make) -> None:
        failing = [line("LD", seed, None, 4.0, "sweep") for seed in SEEDS]
        assert legend_of(sweep_curves(failing)) == ["LD", "failed run (AP 0)"]

    def test_no_distillation_is_a_dashed_line(
        self, sweep: Make, line: Make, legend_of: Make
    ) -> None:
        none = [line("none", seed, 0.30 + 0.01 * seed, 1.0, "sweep") for seed in SEEDS]
        figure = sweep_curves(sweep() + none)
        (dashed,) = [x for x in figure.axes[0].lines if x.get_linestyle() == "--"]
        assert list(dashed.get_ydata()) == pytest.approx([31.0, 31.0])
        assert legend_of(figure) == ["softmax", "BCKD", "no distillation", "failed run (AP 0)"]

    def test_no_sweep_is_told(self, comparison: Make) -> None:
        with pytest.raises(InputError, match="no run of a sweep"):
            sweep_curves(comparison())


class TestScheduleCurves:
    def test_means_and_standard_errors(
        self, comparison: Make, legend_of: Make, lines_by_colour: Make
    ) -> None:
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

    def test_a_method_may_be_absent_at_some_steps(self, comparison: Make) -> None:
        figure = schedule_curves({300: comparison(), 600: comparison(0, "none")}, ["none", "BCKD"])
        own = [x for x in figure.axes[0].lines if x.get_color() == METHOD_COLOURS["BCKD"]]
        assert len(own[0].get_xdata()) == 1

    def test_nothing_to_draw_is_told(self, comparison: Make) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            schedule_curves({300: comparison()}, ["LD"])

"""Figures of why AP moves show the numbers they are given, and nothing overlaps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bckd.studies.statistics import ORDER, summarise
from bckd.studies.tables import TIDE
from bckd.system.errors import InputError
from bckd.viz.methods import METHOD_COLOURS, SPARE_COLOURS
from bckd.viz.study_reasons import (
    error_bars,
    f1_curves,
    gradient_share_curves,
    precision_against,
)

SEEDS = range(3)  # as in conftest.py
Make = Callable[..., Any]  # a maker or reader from conftest.py


class TestColours:
    def test_each_method_has_its_own(self) -> None:
        assert set(METHOD_COLOURS) == set(ORDER)
        assert len(set(METHOD_COLOURS.values())) == len(ORDER)

    def test_a_method_keeps_its_colour_whatever_is_beside_it(self, comparison: Make) -> None:
        for methods in (("BCKD",), ("none", "softmax", "BCKD")):
            figure = precision_against(comparison(0, *methods), ["score_error"])
            assert to_hex(figure.axes[0].collections[-1]) == METHOD_COLOURS["BCKD"].lower()

    def test_a_method_that_is_not_listed_takes_a_spare_colour(self, comparison: Make) -> None:
        figure = precision_against(comparison(0, "none", "mine"), ["score_error"])
        assert to_hex(figure.axes[0].collections[-1]) == SPARE_COLOURS[0].lower()


def to_hex(collection: Any) -> str:
    red, green, blue = (round(255 * part) for part in collection.get_facecolor()[0][:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


class TestScoreAgainstPrecision:
    def test_every_run_that_worked(
        self, line: Make, comparison: Make, sweep: Make, legend_of: Make
    ) -> None:
        lines = [*comparison(), line("softmax", 7, None), *sweep()]
        figure = precision_against(lines, ["score_error"])
        (axes,) = figure.axes
        points = np.concatenate([dots.get_offsets() for dots in axes.collections])
        aps = 0.01 * points[:, 1]
        assert sorted(aps) == pytest.approx(sorted(x["AP"] for x in comparison()))
        assert points[:, 0].tolist() == pytest.approx((0.04 - aps / 20).tolist())
        assert legend_of(figure) == ["no distillation", "softmax", "BCKD"]
        assert (axes.get_xlabel()[:11], axes.get_ylabel()) == ("score error", "AP, %")

    def test_another_field(self, comparison: Make) -> None:
        (axes,) = precision_against(comparison(), ["tide.Loc"]).axes
        assert axes.get_xlabel() == "tide.Loc"

    def test_no_run_is_told(self, sweep: Make) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            precision_against(sweep(), ["score_error"])

    def test_panels_with_their_correlation(self, comparison: Make) -> None:
        panels = precision_against(comparison(), ["score_error", "seed"]).axes
        assert panels[0].get_title() == "correlation -1.00"
        assert len(panels) == 2 and panels[1].get_title() != panels[0].get_title()


class TestF1Curves:
    def test_means_over_the_runs(
        self, line: Make, comparison: Make, legend_of: Make, lines_by_colour: Make
    ) -> None:
        lines = [
            {**x, "f1": {"0.1": 0.2 + x["seed"] / 10, "0.3": 0.5}} for x in comparison(0, "BCKD")
        ]
        figure = f1_curves([*lines, line("BCKD", 7, None)], ["BCKD", "LD"])
        drawn = lines_by_colour(figure)[METHOD_COLOURS["BCKD"]]
        assert drawn.get_xdata().tolist() == [0.1, 0.3]
        assert drawn.get_ydata().tolist() == pytest.approx([0.3, 0.5])
        assert legend_of(figure) == ["BCKD"]

    def test_no_run_is_told(self, sweep: Make) -> None:
        with pytest.raises(InputError, match="no run of a comparison"):
            f1_curves(sweep(), ["BCKD"])


class TestErrorBars:
    def test_heights_and_errors(self, line: Make, comparison: Make, legend_of: Make) -> None:
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

    def test_bars_do_not_overlap_and_stand_over_their_type(self, comparison: Make) -> None:
        (axes,) = error_bars(comparison(0, *ORDER), list(ORDER)).axes
        spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
        assert len(spans) == len(ORDER) * len(TIDE)
        assert all(a[1] < b[0] for a, b in zip(spans, spans[1:], strict=False))
        assert all(abs(sum(span) / 2 - n // len(ORDER)) < 0.5 for n, span in enumerate(spans))
        assert [text.get_text().split("\n")[0] for text in axes.get_xticklabels()] == list(TIDE)

    def test_no_run_is_told(self, comparison: Make) -> None:
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

    def test_one_panel_a_method_and_one_line_a_term(self, legend_of: Make) -> None:
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

    def test_a_term_has_the_colour_of_its_method(self) -> None:
        figure = gradient_share_curves({"both": self.records("qfl", "binary", "softmax", "iou")})
        found = [line.get_color() for line in figure.axes[0].lines]
        own = [METHOD_COLOURS[method] for method in ("none", "L_cls", "softmax")]
        assert found[:1] + found[1:2] == own[:2] and own[2] in found
        assert len(set(found)) == 4

"""What the figures of a whole run show."""

from __future__ import annotations

from typing import Any

import pytest

from bckd.course.figures_05 import precision_curves, seed_lines
from bckd.studies.statistics import Line
from bckd.system.errors import InputError


def _line(method: str, seed: int, AP: float) -> Line:
    return {"part": "comparison", "method": method, "scale": 1.0, "seed": seed, "AP": AP}


LINES = [
    _line("none", 0, 0.30),
    _line("none", 1, 0.34),
    _line("BCKD", 0, 0.40),
    _line("BCKD", 1, 0.42),
    _line("BCKD", 2, 0.44),
]


class TestPrecisionCurves:
    def test_points_of_the_evaluations(self) -> None:
        log: list[dict[str, Any]] = [
            {"step": 59, "loss": 1.0},
            {"step": 199, "metrics": {"AP": 0.1}},
            {"step": 400, "metrics": {"AP": 0.25}},
        ]
        (axes,) = precision_curves({"BCKD": log}).axes
        (line,) = axes.lines
        assert line.get_xdata().tolist() == [199, 400]
        assert line.get_ydata().tolist() == pytest.approx([10, 25])

    def test_a_log_without_evaluation(self) -> None:
        with pytest.raises(InputError, match="'none' has no AP"):
            precision_curves({"none": [{"step": 1, "metrics": {"AP": None}}]})


class TestSeedLines:
    def test_seeds_that_all_methods_have_are_joined(self) -> None:
        (axes,) = seed_lines(LINES, ["none", "BCKD"], seed=1).axes
        joined = [line for line in axes.lines if line.get_marker() == "None"][:2]
        assert [line.get_ydata().tolist() for line in joined] == [
            pytest.approx([30, 40]),
            pytest.approx([34, 42]),
        ]
        assert joined[1].get_linewidth() > joined[0].get_linewidth()

    def test_every_run_is_a_dot_and_the_mean_is_written(self) -> None:
        (axes,) = seed_lines(LINES, ["none", "BCKD"]).axes
        dots = [line.get_ydata().tolist() for line in axes.lines if line.get_linestyle() == "None"]
        assert dots == [pytest.approx([30, 34]), pytest.approx([40, 42, 44])]
        assert {text.get_text() for text in axes.texts} == {"32.0", "42.0"}

    def test_a_method_without_a_run(self) -> None:
        with pytest.raises(InputError, match="no run of 'LD'"):
            seed_lines(LINES, ["none", "LD"])

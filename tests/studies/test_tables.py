"""The Markdown tables of a study."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from bckd.studies.statistics import holm
from bckd.studies.tables import (
    adjusted_p_values,
    comparison_table,
    difference,
    difference_table,
    error_table,
    map_table,
    sweep_table,
)
from bckd.system.errors import InputError

APS = {
    "BCKD": (0.35, 0.37, 0.36, 0.40),
    "none": (0.31, 0.32, 0.33, 0.34),
    "softmax": (0.32, 0.31, 0.34, 0.34),
}
KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


def line(
    method: str, seed: int, ap: float | None, scale: float = 1.0, part: str = "comparison"
) -> dict[str, Any]:
    base = {"part": part, "method": method, "scale": scale, "seed": seed, "AP": ap}
    if ap is None:
        return {**base, "failed": "the loss is not finite at step 3"}
    measured = {"score_error": 0.01 * (seed + 1), "logit_shift": -0.001, "shift_spread": 0.5}
    others = {"class_agreement": None, "calibration_error": 0.05, "AP50": 0.5}
    return {**base, **measured, **others, "tide": {kind: 0.01 * n for n, kind in enumerate(KINDS)}}


def comparison(**changes: tuple[float | None, ...]) -> list[dict[str, Any]]:
    runs = {**APS, **changes}
    return [
        line(method, seed, ap, 4.0 if method == "BCKD" else 1.0)
        for method, aps in runs.items()
        for seed, ap in reversed(list(enumerate(aps)))
    ]


def cells(text: str) -> list[list[str]]:
    """Rows of a table without the rule; every row has as many cells as the head."""
    rows = [row.strip("| ").split(" | ") for row in text.splitlines()]
    assert len({len(row) for row in rows}) == 1, text
    assert set("".join(rows[1])) <= set("-: ")
    return [rows[0], *rows[2:]]


def row_of(text: str, name: str) -> list[str]:
    (row,) = (row for row in cells(text) if row[0] == name)
    return row[1:]


class TestSweepTable:
    LINES = [
        line("softmax", 100, 0.30, 0.25, "sweep"),
        line("softmax", 101, 0.32, 0.25, "sweep"),
        line("softmax", 100, 0.60, 4.0, "sweep"),
        line("softmax", 101, None, 4.0, "sweep"),
        line("LD", 100, 0.2, 1.0, "sweep"),
    ]

    def test_means_seeds_and_the_best(self) -> None:
        assert cells(sweep_table(self.LINES + comparison())) == [
            ["method", "x 0.25", "x 1", "x 4"],
            ["softmax", "**31.0** (2)", "-", "30.0 (2, 1 failed)"],
            ["LD", "-", "**20.0** (1)", "-"],
        ]

    def test_no_distillation_is_what_every_weight_tends_to(self) -> None:
        none = [line("none", 100, 0.25, 1.0, "sweep"), line("none", 101, 0.27, 1.0, "sweep")]
        assert cells(sweep_table(self.LINES + none)) == [
            ["method", "x 0", "x 0.25", "x 1", "x 4"],
            ["softmax", "26.0 (2)", "**31.0** (2)", "-", "30.0 (2, 1 failed)"],
            ["LD", "26.0 (2)", "-", "**20.0** (1)", "-"],
        ]


class TestComparisonTable:
    def test_row_of_a_method(self) -> None:
        text = comparison_table(comparison())
        assert [row[0] for row in cells(text)] == ["method", "none", "softmax", "BCKD"]
        error = 100 * stats.sem(APS["BCKD"])
        assert row_of(text, "BCKD") == [
            "4",
            f"37.0 +- {error:.1f}",
            "35.0, 37.0, 36.0, 40.0",
            "0.0250",
            "+0.00",  # rounds to 0: no minus
            "0.50",
            "-",
            "0.050",
        ]

    def test_a_failed_run_is_told_and_left_out(self) -> None:
        text = comparison_table(comparison(BCKD=(0.35, None, 0.37, None), none=(None, None)))
        assert row_of(text, "BCKD")[1:4] == ["36.0 +- 1.0", "35.0, failed, 37.0, failed", "0.0200"]
        assert row_of(text, "none")[1:4] == ["-", "failed, failed", "-"]

    def test_one_seed_has_no_error(self) -> None:
        assert row_of(comparison_table([line("LD", 0, 0.2)]), "LD")[1] == "20.0"

    def test_chosen_fields(self) -> None:
        text = comparison_table(comparison(), fields=("AP50", "tide.Loc"))
        assert cells(text)[0][4:] == ["AP50", "tide.Loc"]
        assert row_of(text, "none")[3:] == ["50.0", "1.0"]

    def test_two_scales_of_a_method_are_told(self) -> None:
        with pytest.raises(InputError, match=r"BCKD has the scales \[1.0, 4.0\]"):
            comparison_table([*comparison(), line("BCKD", 9, 0.3)])


class TestDifferenceTable:
    def test_against_scipy(self) -> None:
        text = difference_table(comparison(), "none")
        assert [row[0] for row in cells(text)] == ["AP minus none", "softmax", "BCKD"]
        tests = {name: stats.ttest_rel(APS[name], APS["none"]) for name in ("softmax", "BCKD")}
        third = stats.ttest_rel(APS["softmax"], APS["BCKD"])  # not in this table, in its family
        adjusted = holm([*(test.pvalue for test in tests.values()), third.pvalue])[:2]
        for (name, test), p in zip(tests.items(), adjusted, strict=True):
            low, high = (100 * end for end in test.confidence_interval())
            mean = 100 * sum(a - b for a, b in zip(APS[name], APS["none"], strict=True)) / 4
            expected = [f"{mean:+.1f}", f"[{low:.1f}, {high:.1f}]", "4", f"{p:.3f}"]
            assert row_of(text, name) == expected

    def test_a_p_value_does_not_depend_on_what_is_shown(self) -> None:
        lines = comparison(L_cls=(0.33, 0.37, 0.34, 0.38))
        for reference in ("none", "BCKD"):
            whole = difference_table(lines, reference)
            part = difference_table(lines, reference, ["softmax"])
            assert [row[0] for row in cells(part)[1:]] == ["softmax"]
            assert row_of(part, "softmax") == row_of(whole, "softmax")
        ps = (
            row_of(difference_table(lines, a), b)[3]
            for a, b in (("none", "BCKD"), ("BCKD", "none"))
        )
        assert len(set(ps)) == 1  # one test, whichever of the two it is told from

    def test_another_reference_has_a_family_of_its_own(self) -> None:
        tests = [stats.ttest_rel(APS[name], APS["softmax"]) for name in ("none", "BCKD")]
        adjusted = holm([test.pvalue for test in tests])
        found = adjusted_p_values(comparison(), "softmax")
        assert found == pytest.approx(dict(zip(("none", "BCKD"), adjusted, strict=True)))

    def test_failed_runs_of_either_are_told(self) -> None:
        text = difference_table(comparison(BCKD=(0.35, None), none=(None, 0.3, 0.4)), "none")
        assert row_of(text, "BCKD") == ["-", "-", "0 (2 failed)", "-"]
        assert row_of(text, "softmax")[2] == "2 (1 failed)"

    def test_a_tiny_p_value(self) -> None:
        noise = (0.0, 1e-5, 2e-5, 0.0)
        far = tuple(ap + 0.2 + e for ap, e in zip(APS["none"], noise, strict=True))
        assert row_of(difference_table(comparison(BCKD=far), "none"), "BCKD")[3] == "<0.001"

    def test_an_absent_reference_is_told(self) -> None:
        with pytest.raises(InputError, match="no run of 'LD'"):
            difference_table(comparison(), "LD")
        with pytest.raises(InputError, match="no run of 'LD'"):
            difference_table(comparison(), "none", ["LD"])


class TestMapTable:
    def test_cells(self) -> None:
        found = difference(comparison(), "BCKD", "none")
        studies = {
            "base": comparison(),
            "one | seed": [line("BCKD", 0, 0.35), line("none", 0, 0.31)],
            "failing": comparison(BCKD=(0.35, 0.36, 0.37, None)),
            "lost": comparison(BCKD=(None, None)),
            "other seeds": [line("BCKD", 0, 0.35), line("none", 1, 0.31)],
            "empty": [],
        }
        text = map_table(studies, [("BCKD", "none"), ("LD", "none")])
        assert text.splitlines()[3].startswith("| one \\| seed | +4.0 | - |")
        rows = [row for row in cells(text.replace("\\|", "/"))]
        assert rows[0] == ["regime", "BCKD - none", "LD - none"]
        by_name = {row[0]: row[1:] for row in rows[1:]}
        interval = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
        assert by_name["base"] == [f"+4.5 {interval}", "-"]
        assert by_name["failing"][0].startswith("+4.0 [")
        assert by_name["failing"][0].endswith("] (1 failed)")
        assert by_name["lost"][0] == "- (2 failed)"
        assert by_name["other seeds"] == by_name["empty"] == ["-", "-"]

    def test_no_difference_without_a_common_seed(self) -> None:
        assert difference(comparison(), "BCKD", "LD") is None
        assert difference(comparison(BCKD=(None,)), "BCKD", "none") is None


class TestErrorTable:
    def test_means_in_points(self) -> None:
        text = error_table(comparison(BCKD=(0.3, None)))
        assert cells(text)[0] == ["method", *KINDS]
        assert row_of(text, "BCKD") == ["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]

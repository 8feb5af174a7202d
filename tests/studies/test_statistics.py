"""Summaries, paired differences and the choice of a scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bckd.studies.statistics import (
    best_scale,
    holm,
    in_order,
    methods_of,
    paired,
    runs_needed,
    scales_of,
    summarise,
    values,
)
from bckd.system.errors import InputError

NAN = math.nan


def line(
    method: str, seed: int, ap: float | None, scale: float = 1.0, part: str = "comparison"
) -> dict[str, Any]:
    base = {"part": part, "method": method, "scale": scale, "seed": seed, "AP": ap}
    if ap is None:
        return {**base, "failed": "the loss is not finite at step 3"}
    return {**base, "APl": None, "tide": {"Cls": ap / 10}, "f1": {"0.1": ap / 2}}


def sweep(method: str, aps: dict[float, tuple[float | None, ...]]) -> list[dict[str, Any]]:
    return [
        line(method, 100 + n, ap, scale, "sweep")
        for scale, runs in aps.items()
        for n, ap in enumerate(runs)
    ]


class TestSummarise:
    def test_mean_and_standard_error(self) -> None:
        numbers = [0.31, 0.29, 0.36, 0.3]
        found = summarise(numbers)
        assert found.mean == pytest.approx(np.mean(numbers))
        assert found.error == pytest.approx(stats.sem(numbers))
        assert (found.count, found.values) == (4, tuple(numbers))

    def test_one_value_has_no_error(self) -> None:
        found = summarise([0.5])
        assert (found.mean, found.count) == (0.5, 1)
        assert math.isnan(found.error)

    def test_failed_runs_are_left_out(self) -> None:
        assert summarise([0.2, NAN, 0.4]) == summarise([0.2, 0.4])
        assert summarise([NAN]).count == 0 and math.isnan(summarise([]).mean)


class TestPaired:
    A = {0: 0.34, 1: 0.37, 2: 0.33, 3: 0.39, 9: 0.9}
    B = {3: 0.33, 2: 0.32, 1: 0.32, 0: 0.31, 7: 0.1}

    @pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
    def test_agrees_with_scipy_on_the_common_seeds(self, level: float) -> None:
        found = paired(self.A, self.B, level)
        a, b = ([runs[seed] for seed in range(4)] for runs in (self.A, self.B))
        expected = stats.ttest_rel(a, b)
        interval = expected.confidence_interval(level)
        assert found.count == 4
        assert found.mean == pytest.approx(0.0375)
        assert found.error == pytest.approx(stats.sem(np.subtract(a, b)))
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert found.p_value == pytest.approx(expected.pvalue)

    def test_the_pair_of_a_failed_run_is_left_out(self) -> None:
        assert paired({**self.A, 2: NAN}, self.B).count == 3
        assert paired(self.A, {**self.B, 2: NAN, 3: NAN}).count == 2

    def test_one_pair_has_a_mean_alone(self) -> None:
        found = paired({0: 0.5, 1: 0.6}, {1: 0.25})
        assert (found.mean, found.count) == (pytest.approx(0.35), 1)
        assert all(map(math.isnan, (found.error, found.low, found.high, found.p_value)))

    @pytest.mark.parametrize(("gap", "p_value"), [(0.0, 1.0), (0.25, 0.0)])
    def test_equal_differences_leave_no_doubt(self, gap: float, p_value: float) -> None:
        found = paired({0: 0.5 + gap, 1: 0.25 + gap}, {0: 0.5, 1: 0.25})
        assert (found.low, found.high, found.p_value) == (gap, gap, p_value)

    @pytest.mark.parametrize("b", [{}, {1: 0.2}, {0: NAN}])
    def test_no_common_seed_is_told(self, b: dict[int, float]) -> None:
        with pytest.raises(InputError, match="no seed has a value in both"):
            paired({0: 0.3}, b)

    @pytest.mark.parametrize("level", [0, 1, 95, NAN])
    def test_level_out_of_range(self, level: float) -> None:
        with pytest.raises(InputError, match="level is"):
            paired(self.A, self.B, level)


class TestValues:
    LINES = [
        line("BCKD", 2, 0.4),
        line("BCKD", 0, 0.3),
        line("BCKD", 1, None),
        line("none", 0, 0.2),
        *sweep("BCKD", {0.5: (0.1, None), 2.0: (0.3, 0.5)}),
    ]

    def test_by_seed_of_one_method_and_part(self) -> None:
        found = values(self.LINES, "BCKD")
        assert list(found) == [0, 1, 2]
        assert (found[0], found[2]) == (0.3, 0.4)
        assert values(self.LINES, "none") == {0: 0.2}
        assert values(self.LINES, "LD") == {}

    def test_a_failed_run_is_0_in_the_sweep_and_nan_in_the_comparison(self) -> None:
        assert math.isnan(values(self.LINES, "BCKD")[1])
        assert values(self.LINES, "BCKD", part="sweep", scale=0.5) == {100: 0.1, 101: 0.0}
        assert math.isnan(values(self.LINES, "BCKD", "tide.Cls", "sweep", 0.5)[101])

    def test_fields_in_dicts(self) -> None:
        assert values(self.LINES, "none", "tide.Cls") == {0: 0.02}
        assert values(self.LINES, "none", "f1.0.1") == {0: 0.1}
        assert math.isnan(values(self.LINES, "BCKD", "tide.Cls")[1])

    def test_what_json_could_not_express_is_nan(self) -> None:
        assert math.isnan(values(self.LINES, "none", "APl")[0])

    @pytest.mark.parametrize("field", ["score", "tide", "tide.Class", "AP.x", "x.seed", "method"])
    def test_an_unknown_field_is_told(self, field: str) -> None:
        with pytest.raises(InputError, match=f"no number '{field}'"):
            values(self.LINES, "none", field)

    def test_several_scales_need_a_name(self) -> None:
        with pytest.raises(InputError, match=r"scales \[0.5, 2.0\]"):
            values(self.LINES, "BCKD", part="sweep")

    def test_two_runs_of_a_seed_are_told(self) -> None:
        with pytest.raises(InputError, match="two runs of seed 0"):
            values([*self.LINES, line("BCKD", 0, 0.5)], "BCKD")


class TestMethods:
    def test_known_methods_come_first_in_their_order(self) -> None:
        assert in_order(["new", "BCKD", "none", "new", "LD"]) == ["none", "LD", "BCKD", "new"]

    def test_of_one_part(self) -> None:
        lines = [
            line("BCKD", 0, 0.1),
            line("none", 0, 0.1),
            *sweep("LD", {4.0: (0.1,), 1.0: (0.1,)}),
        ]
        assert methods_of(lines) == ["none", "BCKD"]
        assert methods_of(lines, "sweep") == ["LD"]
        assert scales_of(lines, "LD") == [1.0, 4.0]
        assert scales_of(lines, "LD", "comparison") == []


class TestBestScale:
    @pytest.mark.parametrize(
        ("aps", "best"),
        [
            ({0.25: (0.2, 0.4), 1.0: (0.31, 0.31), 4.0: (0.1, 0.45)}, 1.0),
            ({1.0: (0.3, 0.3), 4.0: (0.9, None)}, 4.0),  # 0.45 with the failed run as 0
            ({1.0: (0.3, 0.3), 4.0: (0.5, None)}, 1.0),
            ({0.25: (None,), 4.0: (0.1,)}, 4.0),
            ({4.0: (0.1, 0.2, 0.3), 0.5: (0.3, 0.2, 0.1), 0.25: (0.2, 0.1, 0.3)}, 0.5),  # a tie
            ({2.0: (0.1,), 0.5: (0.1,)}, 0.5),  # 1/2 and 2 are equally near
            ({10.0: (0.1,), 0.1: (0.1,)}, 0.1),
        ],
    )
    def test_highest_mean_then_nearest_to_1(self, aps: dict, best: float) -> None:
        lines = [
            *sweep("softmax", aps),
            *sweep("LD", {8.0: (0.99,)}),
            line("softmax", 0, 1.0, 16.0),
        ]
        assert best_scale(lines, "softmax") == best
        assert best_scale(lines[::-1], "softmax") == best

    @pytest.mark.parametrize(
        ("below", "largest", "best"),
        [
            ((0.2, 0.3, 0.25), (0.3, 0.28, 0.3), 4.0),  # ahead in the mean, but open
            ((0.2, 0.3, 0.25), (0.3, 0.4, 0.36), 16.0),  # ahead at every seed by as much
            ((0.2, 0.3), (0.3, 0.28), 16.0),  # too few seeds to leave anything open
        ],
    )
    def test_the_largest_has_to_prove_itself(
        self, below: tuple[float, ...], largest: tuple[float, ...], best: float
    ) -> None:
        lines = sweep("BCKD", {1.0: (0.1, 0.1), 4.0: below, 16.0: largest})
        assert best_scale(lines, "BCKD") == best

    def test_means_are_over_the_seeds_that_all_scales_have(self) -> None:
        lines = sweep("BCKD", {1.0: (0.30, 0.30), 4.0: (0.25, 0.25), 16.0: (0.31, 0.31, 0.2, 0.2)})
        assert best_scale(lines, "BCKD") == 16.0

    def test_no_common_seed_is_told(self) -> None:
        lines = [line("LD", 0, 0.1, 1.0), line("LD", 1, 0.1, 4.0)]
        with pytest.raises(InputError, match="LD has no seed that all its scales have"):
            best_scale([{**x, "part": "sweep"} for x in lines], "LD")

    def test_a_method_without_sweep_is_told(self) -> None:
        with pytest.raises(InputError, match=r"no run of 'none'; it has \['LD'\]"):
            best_scale([*sweep("LD", {1.0: (0.1,)}), line("none", 0, 0.1)], "none")

    def test_a_scale_of_0_is_told(self) -> None:
        with pytest.raises(InputError, match="scale 0"):
            best_scale(sweep("LD", {0.0: (0.1,), 1.0: (0.1,)}), "LD")


class TestRunsNeeded:
    def test_against_published_tables(self) -> None:
        """Pairs for a two-sided t-test at .05 and 80 %, or 95 %, as G*Power has them."""
        assert [runs_needed(d, 1.0) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
        assert runs_needed(-0.5, 1.0, power=0.95) == 54

    def test_only_the_ratio_counts(self) -> None:
        assert runs_needed(0.01, 0.028) == runs_needed(1.0, 2.8)

    def test_so_many_pairs_find_it_so_often(self) -> None:
        count = runs_needed(1.0, 1.0)
        pairs = np.random.default_rng(0).normal(1.0, 1.0, (20_000, count))
        found = stats.ttest_1samp(pairs, 0.0, axis=1).pvalue < 0.05
        assert 0.79 < found.mean() < 0.86
        fewer = stats.ttest_1samp(pairs[:, 1:], 0.0, axis=1).pvalue < 0.05
        assert fewer.mean() < 0.8

    def test_a_difference_that_cannot_be_missed(self) -> None:
        assert runs_needed(1.0, 1e-4) == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((0.0, 1.0), "difference is 0.0"),
            ((1.0, 0.0), "deviation 0.0"),
            ((1.0, NAN), "deviation nan"),
            ((1.0, 1.0, 1.0), "power is 1.0"),
            ((1.0, 1.0, 0.8, 0.0), "level is 0.0"),
            ((1e-4, 1.0), "over a million pairs"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple, words: str) -> None:
        with pytest.raises(InputError, match=words):
            runs_needed(*arguments)


class TestHolm:
    def test_by_hand(self) -> None:
        # Sorted .005 * 4, .01 * 3, .03 * 2, .04 * 1; the last is raised to the one before.
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_at_most_1_and_at_least_the_raw_value(self) -> None:
        raw = np.random.default_rng(0).uniform(size=9).tolist()
        adjusted = holm(raw)
        assert all(p <= q <= 1 for p, q in zip(raw, adjusted, strict=True))
        assert np.argsort(raw, kind="stable").tolist() == sorted(
            range(9), key=lambda n: (adjusted[n], raw[n])
        )

    def test_one_test_is_its_own_family(self) -> None:
        assert holm([0.2]) == [0.2] and holm([]) == []

    def test_nan_stays_and_does_not_count(self) -> None:
        found = holm([0.02, NAN, 0.01])
        assert math.isnan(found[1])
        assert [found[0], found[2]] == holm([0.02, 0.01])

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.inf])
    def test_out_of_range(self, p: float) -> None:
        with pytest.raises(InputError, match="p value"):
            holm([0.1, p])

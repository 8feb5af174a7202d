"""Late starts and early ones apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from bckd.studies.by_start import POINT, starts_table, stratified_difference
from bckd.studies.common_starts import EARLY, LATE, is_late, start_models
from bckd.studies.noise import difference_on_images
from bckd.studies.regimes import SCENES
from bckd.studies.statistics import runs_needed

# AP minus BCKD's by seed: late starts have even seeds.
LEADS = {
    "none": (-0.03, -0.05, -0.02, -0.06),
    "MGD": (0.01, 0.03, 0.012, 0.034),
    "BCKD": (0.0,) * 4,
}


def line(method: str, seed: int, wobble: float = 0.0) -> dict[str, Any]:
    ap = 0.3 + LEADS[method][seed] + (0.1 if is_late(seed) else 0.0)
    tenths = {"AP": [ap + wobble * (-1) ** k for k in range(10)]}
    return {
        "part": "comparison",
        "method": method,
        "scale": 1.0,
        "seed": seed,
        "AP": ap,
        "without_tenth": tenths,
    }


LINES = [line(method, seed) for method in LEADS for seed in range(4)]


def test_late_starts_have_learnt_for_longer() -> None:
    for n, recipe in enumerate(start_models(SCENES).values()):
        assert recipe.steps == (LATE if is_late(n) else EARLY)


def test_the_difference_between_kinds_is_no_error() -> None:
    found = stratified_difference(LINES, "MGD", "BCKD")
    assert found.mean == pytest.approx(0.0215) and found.count == 4
    # Two pairs a kind: the variance of a mean is half of the pairs'.
    variances = [(0.002**2 / 2) / 2, (0.004**2 / 2) / 2]
    assert found.error == pytest.approx(math.sqrt(sum(0.25 * x for x in variances)))
    half = stats.t.ppf(0.975, 2) * found.error
    assert (found.low, found.high) == pytest.approx((0.0215 - half, 0.0215 + half))
    assert found.error < difference_on_images(LINES, "MGD", "BCKD").error


def test_images_are_a_source_of_error() -> None:
    wobbling = [line(x["method"], x["seed"], 0.01 * (x["method"] == "MGD")) for x in LINES]
    plain, moved = (stratified_difference(x, "MGD", "BCKD") for x in (LINES, wobbling))
    assert moved.mean == plain.mean and moved.error > plain.error


def test_a_row_a_method_best_first_at_late_starts() -> None:
    head, _, *rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in starts_table(LINES).splitlines()
    ]
    assert [row[0] for row in rows] == ["MGD", "BCKD"]
    cells = dict(zip(head, rows[0], strict=True))
    assert (cells["none, late"], cells["none, early"]) == ("+3.6", "+8.7")
    assert (cells["BCKD, late"], cells["BCKD, early"]) == ("+1.1", "+3.2")
    deviation = math.sqrt(sum((x - 0.0215) ** 2 for x in LEADS["MGD"]) / 3)
    assert cells["s.d. of a pair"] == f"{100 * deviation:.1f}"
    assert cells["pairs for a point"] == str(runs_needed(POINT, deviation))
    assert rows[1][1:] == ["+2.5", "+5.5", "-", "-", "-", "-", "-"]

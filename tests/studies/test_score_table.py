"""What scores are worth, as a table."""

from __future__ import annotations

from typing import Any

from bckd.studies.score_table import THRESHOLDS, score_table


def line(method: str, seed: int, best: float) -> dict[str, Any]:
    f1 = {each: best - 0.1 * n - 0.01 * seed for n, each in enumerate(THRESHOLDS)}
    errors = {"score_error": 0.02 + 0.002 * seed, "calibration_error": 0.1}
    base = {"part": "comparison", "method": method, "scale": 1.0, "seed": seed, "AP": 0.3}
    return {**base, **errors, "f1": f1}


LINES = [line(name, seed, best) for name, best in (("none", 0.7), ("BCKD", 0.8)) for seed in (0, 1)]


def test_means_best_f1_first() -> None:
    _, _, *rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in score_table(LINES).splitlines()
    ]
    assert [row[:4] for row in rows] == [
        ["BCKD", "0.021", "0.100", "79.5"],
        ["none", "0.021", "0.100", "69.5"],
    ]
    assert rows[0][4:] == [f"{79.5 - 10 * n:.1f}" for n in range(len(THRESHOLDS))]


def test_chosen_methods_alone_and_no_sweep() -> None:
    swept = [{**x, "part": "sweep", "score_error": 9.0} for x in LINES]
    assert score_table([*LINES, *swept], ["none"]) == score_table(LINES[:2])

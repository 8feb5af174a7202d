"""What each part of the teacher's output is worth, by method."""

from __future__ import annotations

import pytest

from bckd.studies.statistics import Line
from bckd.studies.swap_table import gains_of_parts, swap_table


def run(method: str, seed: int, level: float) -> Line:
    swapped = {"level": level, "pattern": 0.3, "boxes": 0.25}
    return {"method": method, "seed": seed, "AP": 0.2 + 0.1 * seed, "swapped": swapped}


LINES = [run("ours", 0, 0.26), run("ours", 1, 0.38), run("other", 0, 0.9)]


def test_gains_are_of_one_method_and_paired_by_seed() -> None:
    found = gains_of_parts(LINES, "ours")
    assert list(found) == ["level", "pattern", "boxes"]
    assert found["level"].mean == pytest.approx((0.06 + 0.08) / 2)
    assert found["level"].count == 2
    assert found["boxes"].mean == pytest.approx((0.05 - 0.05) / 2)


def test_one_row_a_method() -> None:
    head, _, ours, other = swap_table(LINES).splitlines()
    assert head == "| method | AP | teacher's level | teacher's pattern | teacher's boxes |"
    assert ours.startswith("| ours | 25.0 | +7.0 [")
    assert other.startswith("| other | 20.0 | +70.0")

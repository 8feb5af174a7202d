"""What each part of the teacher's output is worth to students, by method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from bckd.studies.difference_text import points
from bckd.studies.statistics import Difference, Line, paired
from bckd.studies.swaps import Part
from bckd.studies.tables import table


def gains_of_parts(lines: Iterable[Line], method: str) -> dict[str, Difference]:
    """By part, AP in 0..1 with the teacher's in place of the student's, minus the student's own.

    Args:
        lines: as `measure_swaps` makes them; paired by seed.
    """
    runs = [line for line in lines if line["method"] == method]
    own = {run["seed"]: run["AP"] for run in runs}
    return {
        part: paired({run["seed"]: run["swapped"][part] for run in runs}, own)
        for part in get_args(Part)
    }


def swap_table(lines: Sequence[Line]) -> str:
    """One row a method, in the lines' order: AP, and what each of the teacher's parts adds."""
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        found = [100 * line["AP"] for line in lines if line["method"] == method]
        gains = gains_of_parts(lines, method).values()
        rows.append([method, f"{sum(found) / len(found):.1f}", *map(points, gains)])
    return table(["method", "AP", *(f"teacher's {part}" for part in get_args(Part))], rows)

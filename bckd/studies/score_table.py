"""What scores are worth, beside what their order is: calibration, and F1 at fixed thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bckd.studies.statistics import Line, methods_of, summarise, values
from bckd.studies.tables import table

THRESHOLDS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")


def score_table(lines: Iterable[Line], methods: Sequence[str] = ()) -> str:
    """One row a method, best F1 first: mean score error, calibration error, F1 by threshold.

    Errors are in 0..1, F1 (IoU .5, all classes together) in percent; all are means over runs. The
    best F1 is a run's best at these thresholds.

    Args:
        lines: of one study; the sweep in it is passed over.
        methods: those that get a row; none for all.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    names = [name for name in methods_of(lines) if not methods or name in methods]
    names.sort(key=lambda name: -_best_f1(lines, name))
    head = ["method", "score error", "calibration error", "best F1"]
    rows = [
        [
            name,
            *(f"{_mean(lines, name, field):.3f}" for field in ("score_error", "calibration_error")),
            f"{100 * _best_f1(lines, name):.1f}",
            *(f"{100 * _mean(lines, name, f'f1.{each}'):.1f}" for each in THRESHOLDS),
        ]
        for name in names
    ]
    return table([*head, *(f"at {each[1:]}" for each in THRESHOLDS)], rows)


def _best_f1(lines: list[Line], method: str) -> float:
    found = [values(lines, method, f"f1.{each}").values() for each in THRESHOLDS]
    return summarise(map(max, zip(*found, strict=True))).mean


def _mean(lines: list[Line], method: str, field: str) -> float:
    return summarise(values(lines, method, field).values()).mean

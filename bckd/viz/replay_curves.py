"""What stands below a replay: values along several runs, by title."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bckd.structures import DenseOutput
from bckd.system.errors import InputError

Curve = Sequence[tuple[int, float]]  # (step, value), by step
Curves = Mapping[str, Mapping[str, Curve]]  # by title, then by detector


def value_at(curve: Curve, step: int) -> float | None:
    """Where the line through the points stands at a step; None before its first point.

    After the last point it is that point's value.
    """
    if step < curve[0][0]:
        return None
    steps, values = zip(*curve, strict=True)
    return float(np.interp(step, steps, values))


def check_replay(
    steps: Sequence[int], students: Mapping[str, Sequence[DenseOutput]], curves: Curves
) -> None:
    """Refuse steps, outputs and curves that do not make a replay.

    Raises:
        InputError: not one output a step, steps that do not grow, an empty curve or one with a
            value that is not finite.
    """
    for name, outputs in students.items():
        if not steps or len(steps) != len(outputs):
            raise InputError(
                f"there are {len(steps)} steps and {len(outputs)} dense outputs of {name!r}; "
                "expected one output a step"
            )
    _check_order("steps", steps)
    for title, of_title in curves.items():
        for name, curve in of_title.items():
            which = f"curve {title!r} of {name!r}"
            if not curve:
                raise InputError(f"{which} is empty; expected (step, value) pairs")
            _check_order(f"the steps of {which}", [step for step, _ in curve])
            wrong = [step for step, value in curve if not math.isfinite(value)]
            if wrong:
                raise InputError(f"{which} has no finite value at step {wrong[0]}")


def _check_order(what: str, steps: Sequence[int]) -> None:
    for before, after in zip(steps, steps[1:], strict=False):
        if after <= before:
            raise InputError(f"{what} have {after} after {before}; expected them to grow")

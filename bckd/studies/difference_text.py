"""How tables write a difference of AP and its p value."""

from __future__ import annotations

import math

from bckd.studies.statistics import Difference


def points(found: Difference) -> str:
    """In points with the 95 % interval, such as "+1.2 [0.4, 2.0]"; one pair has no interval."""
    interval = "" if math.isnan(found.low) else f" {interval_text(found)}"
    return mean_text(found.mean) + interval


def mean_text(difference: float) -> str:
    """A difference of AP in points; one that rounds to 0 has no minus."""
    return f"{100 * difference:+z.1f}"


def interval_text(found: Difference) -> str:
    """The 95 % interval in points, or "-"."""
    return "-" if math.isnan(found.low) else f"[{100 * found.low:z.1f}, {100 * found.high:z.1f}]"


def p_value_text(p: float) -> str:
    """To three decimals; "-" where no test could be made."""
    return "-" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"

"""Metrics as a user reads them in a terminal."""

from __future__ import annotations

import math
from typing import Any

from bckd.system.telling import tell_some


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print AP and its parts in percent, then AP by class; what has no object is left out."""
    per_class = metrics["per_class"]
    summary = {name: value for name, value in metrics.items() if name != "per_class"}
    if math.isnan(metrics["AP"]):
        print("AP is unknown: no object to find is listed")
        return
    print("  ".join(f"{name} {_percent(value)}" for name, value in summary.items()))
    known = {name: value for name, value in per_class.items() if not math.isnan(value)}
    width = max(map(len, known))
    for name, value in known.items():
        print(f"  {name:{width}}  {_percent(value)}")
    tell_some("no object here of {} classes", [name for name in per_class if name not in known])


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"

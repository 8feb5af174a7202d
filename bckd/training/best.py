"""The best of a run's evaluations so far, by its log: when to keep a student, when to end."""

from __future__ import annotations

import math
from pathlib import Path

from bckd.evaluation.average_precision import Metrics
from bckd.training.run_log import read_log

BEST = "best.safetensors"  # of the student with the highest AP, in the folder of a run


def is_best(out: Path, metrics: Metrics) -> bool:
    """Whether no evaluation before this one, whose line is not written yet, has such an AP."""
    return not math.isnan(metrics.AP) and metrics.AP > max(_scores(out), default=-1.0)


def out_of_patience(out: Path, patience: int) -> bool:
    """Whether so many evaluations have passed since the best."""
    scores = _scores(out)
    return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


def _scores(out: Path) -> list[float]:
    """The AP of each evaluation on the way; one that is unknown is below all others."""
    found = (line["metrics"].get("AP") for line in read_log(out) if "metrics" in line)
    return [-1.0 if score is None else score for score in found]

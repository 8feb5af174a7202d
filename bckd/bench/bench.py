"""The bench: each part of it in turn, the results of all in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from bckd.bench.annotations import time_annotations
from bckd.bench.exporting import time_export
from bckd.bench.inference import time_inference
from bckd.bench.loading import time_loading
from bckd.bench.machine import this_machine
from bckd.bench.options import BenchOptions, Part
from bckd.bench.results import LeftOut, Line, Results
from bckd.bench.scoring import time_scoring
from bckd.bench.step import time_step
from bckd.bench.subject import Subject, subject_of
from bckd.bench.terms import time_terms

_MEASURE: dict[Part, Callable[[Subject], Iterator[Line | LeftOut]]] = {
    "step": time_step,
    "terms": time_terms,
    "annotations": time_annotations,
    "loader": time_loading,
    "inference": time_inference,
    "evaluation": time_scoring,
    "export": time_export,
}


def run_bench(
    preset: str, options: BenchOptions, tell: Callable[[Results], object] = lambda _: None
) -> Results:
    """Measure each of the parts asked for.

    Args:
        tell: is given the results so far after each line, so that none is lost.

    Raises:
        InputError: there is no such preset or device, or the data set can't be used.
    """
    subject = subject_of(preset, options)
    machine = this_machine(subject.device, subject.autocast or torch.float32)
    results = Results(machine, subject.settings)
    for part in dict.fromkeys(options.parts):
        for found in _MEASURE[part](subject):
            results = _with(results, found)
            tell(results)
    return results


def _with(results: Results, found: Line | LeftOut) -> Results:
    if isinstance(found, LeftOut):
        return replace(results, left_out=(*results.left_out, found))
    return replace(results, lines=(*results.lines, found))

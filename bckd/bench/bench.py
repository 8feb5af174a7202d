"""The bench: each part of it in turn, the results of all in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from bckd.bench.machine import this_machine
from bckd.bench.options import BenchOptions, Part
from bckd.bench.results import Line, Results
from bckd.bench.step import time_step
from bckd.bench.subject import Subject, subject_of

_MEASURE: dict[Part, Callable[[Subject], Iterator[Line]]] = {
    "step": time_step,
}


def run_bench(
    preset: str, options: BenchOptions, tell: Callable[[Results], object] = lambda _: None
) -> Results:
    """Measure each of the parts asked for.

    Args:
        tell: is given the results so far after each part.

    Raises:
        InputError: there is no such preset or device, or the data set can't be used.
    """
    subject = subject_of(preset, options)
    machine = this_machine(subject.device, subject.autocast or torch.float32)
    results = Results(machine, subject.settings)
    for part in dict.fromkeys(options.parts):
        results = _with_part(results, part, subject)
        tell(results)
    return results


def _with_part(results: Results, part: Part, subject: Subject) -> Results:
    lines = list(_MEASURE[part](subject))
    return replace(results, lines=(*results.lines, *lines))

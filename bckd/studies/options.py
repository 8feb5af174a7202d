"""What of a study is run, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bckd.system.values import Count, Place, Processes, Seed

RUNS = Path("runs/study")  # folder of all studies, unless another is named
PUBLISHED = Path("notebooks/results")  # of the catalogue's studies


@dataclass(frozen=True)
class StudyOptions:
    """Where a study reads and writes, and which part of its comparison to run."""

    results: Place = PUBLISHED
    """folder of one JSON-lines file a study; runs that are there are not repeated, so a new
    folder (and a new --out) repeats them all"""
    scales_from: Place | None = None
    """folder of results whose sweep chooses the scales, in place of one that is run"""
    out: Place = RUNS
    """folder of the runs, and of the models that studies need"""
    processes: Processes = 2
    """runs side by side"""
    threads: Count = 1
    """threads of each; with others sums are rounded in another way, and so AP moves a little"""
    device: str | None = None
    """what to compute on (cpu, cuda, cuda:1, mps), in place of the study's own, mostly the cpu"""
    seeds: tuple[Seed, ...] = ()
    """compare on these seeds (default: the published ones); needs --extra for others"""
    methods: tuple[str, ...] = ()
    """compare these methods alone"""
    extra: Place | None = None
    """write the comparison's lines to this file, in place of the published one"""
    swaps: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """also measure what each part of the output costs each student, into NAME_swaps.jsonl"""


@dataclass(frozen=True)
class HypothesesOptions:
    """Whose runs tell."""

    results: Place = PUBLISHED
    """folder of one JSON-lines file a study"""

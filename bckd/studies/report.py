"""What the command line says of studies: the list of them, and one study's tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bckd.studies.noise import repeated
from bckd.studies.ranking import alone_of, ranking_table
from bckd.studies.statistics import methods_of
from bckd.studies.study import Study
from bckd.studies.tables import comparison_table, difference_table, noise_table, sweep_table


def overview(studies: Iterable[Study]) -> list[tuple[str, str]]:
    """The name of each study, and in words its runs, their steps and its title."""
    rows = []
    for study in studies:
        runs = len(list(study.sweep())) + len(study.methods) * len(study.seeds)
        rows.append((study.name, f"{runs} runs of {study.base.steps} steps: {study.title}"))
    return rows


def summary(study: Study, lines: list[dict[str, Any]]) -> str:
    """The tables of a study, as Markdown."""
    tables = []
    if any(line["part"] == "sweep" for line in lines):
        tables.append(sweep_table(lines))
    tables.append(comparison_table(lines))
    present = methods_of(lines)
    compared = [line for line in lines if line["part"] == "comparison"]
    if len(present) > 1:
        shared = [name for name in study.shared if name in present and name != "none"]
        reference = "BCKD" if "BCKD" in present else [*shared, *present][0]
        fine = {alone_of(compared), "BCKD"} <= {*present} and all(
            "without_tenth" in x for x in compared
        )
        tables.append(ranking_table(lines) if fine else difference_table(lines, reference))
    if study.starts and repeated(lines, len(study.starts)):
        tables.append(noise_table(lines, len(study.starts)))
    return "\n\n".join(tables)

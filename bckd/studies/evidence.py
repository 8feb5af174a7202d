"""The map of all regimes, as notebooks/evidence.md and the evidence notebook show it."""

from __future__ import annotations

from pathlib import Path

from bckd.studies.catalogue import STUDIES
from bckd.studies.runner import published
from bckd.studies.statistics import Difference, Line
from bckd.studies.tables import difference, map_table

REGIMES = (
    "steps-300",
    "base",
    "recipe-confirm",
    "steps-2400",
    "same-start",
    "same-start-1200",
    "weak-teacher",
    "one-class",
    "one-class-1200",
    "four-classes",
    "twelve-classes",
    "neu-det",
    "neu-det-tuned",
    "neu-det-pretrained",
)
COLUMNS = (
    ("softmax", "none"),
    ("BCKD", "none"),
    ("softmax + L_loc", "none"),
    ("BCKD", "softmax"),
    ("BCKD", "softmax + L_loc"),
)


def load_studies(results: Path) -> dict[str, list[Line]]:
    """The lines of every study by its name, those that it shares with "base" included."""
    return {name: published(study, results) for name, study in STUDIES.items()}


def evidence_table(lines: dict[str, list[Line]]) -> str:
    """One row a regime, one column a pair of methods: AP difference [95% interval]."""
    return map_table({STUDIES[name].title: lines[name] for name in REGIMES}, COLUMNS)


def evidence_map(
    lines: dict[str, list[Line]], methods: tuple[str, ...], reference: str
) -> dict[str, dict[str, Difference]]:
    """By title of a regime and method: AP minus the reference's, in 0..1.

    A method that a regime lacks has no entry there.
    """
    found: dict[str, dict[str, Difference]] = {}
    for name in REGIMES:
        row = {method: difference(lines[name], method, reference) for method in methods}
        found[STUDIES[name].title] = {m: d for m, d in row.items() if d is not None}
    return found

"""The map of regimes, and the copy of it in notebooks/evidence.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bckd.course.question_picture import PAIRS
from bckd.studies.by_start import starts_table
from bckd.studies.catalogue import STUDIES
from bckd.studies.evidence import (
    COLUMNS,
    REGIMES,
    evidence_map,
    evidence_table,
    load_studies,
)
from bckd.studies.hypotheses import hypotheses_table, verdicts
from bckd.studies.ranking import pairs_table, ranking_table
from bckd.studies.score_table import score_table
from bckd.studies.statistics import Line, paired, values
from bckd.training.run_log import read_lines

COMMON_STARTS = ("noise", "fine", "fine-shapes", "fine-search", "fine-confirm")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "notebooks" / "evidence.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lines() -> dict[str, list[Line]]:
    return load_studies(ROOT / "notebooks" / "results")


def test_every_regime_is_a_study() -> None:
    assert set(REGIMES) <= set(STUDIES)
    titles = [STUDIES[name].title for name in REGIMES]
    assert len(set(titles)) == len(titles)


def test_shared_runs_are_in_the_lines(lines: dict[str, list[Line]]) -> None:
    methods = {line["method"] for line in lines["why"]}
    assert {"none", "BCKD", "softmax + L_loc"} <= methods
    seeds = {line["seed"] for line in lines["why"] if line["part"] == "comparison"}
    assert seeds == set(STUDIES["why"].seeds)


def test_the_map_is_paired_by_seed(lines: dict[str, list[Line]]) -> None:
    found = evidence_map(lines, ("none", "softmax"), "BCKD")
    assert list(found) == [STUDIES[name].title for name in REGIMES]
    assert "softmax" not in found[STUDIES["one-class"].title]
    expected = paired(values(lines["base"], "none"), values(lines["base"], "BCKD"))
    assert found[STUDIES["base"].title]["none"] == expected


def test_the_page_has_the_table_of_the_results(lines: dict[str, list[Line]]) -> None:
    table = evidence_table(lines)
    assert table.count("\n") == len(REGIMES) + 1
    assert all(f"{a} - {b}" in table for a, b in COLUMNS)
    assert table in PAGE


def test_the_page_has_the_tables_of_common_starts(lines: dict[str, list[Line]]) -> None:
    assert ranking_table(lines["fine"]) in PAGE
    assert pairs_table(lines["fine"], PAIRS) in PAGE
    assert starts_table(lines["fine"]) in PAGE
    assert score_table(lines["fine"]) in PAGE
    assert ranking_table(lines["fine-shapes"]) in PAGE
    assert ranking_table(lines["fine-search"]) in PAGE
    assert ranking_table(lines["fine-confirm"]) in PAGE
    assert starts_table(lines["fine-confirm"]) in PAGE
    assert score_table(lines["fine-confirm"]) in PAGE
    assert hypotheses_table(verdicts(lines)) in PAGE
    told = re.search(r"\d+ training runs .*; (\d+) more", PAGE)
    assert told and int(told[1]) == sum(len(read(x)) for x in COMMON_STARTS)


def read(name: str) -> list[Line]:
    return read_lines(ROOT / "notebooks" / "results" / f"{name}.jsonl")

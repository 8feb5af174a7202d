"""The map of regimes, and the copy of it in notebooks/evidence.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bckd.course.question_picture import PAIRS, swaps_without_labels
from bckd.studies.by_start import starts_table
from bckd.studies.catalogue import STUDIES
from bckd.studies.difference_text import points
from bckd.studies.evidence import (
    COLUMNS,
    REGIMES,
    evidence_map,
    evidence_table,
    load_studies,
)
from bckd.studies.hypotheses import FAMILIES
from bckd.studies.noise import difference_on_images, rounding
from bckd.studies.ranking import pairs_table, ranking_table
from bckd.studies.score_table import score_table
from bckd.studies.statistics import Line, paired, values
from bckd.studies.swap_table import gains_of_parts, swap_table
from bckd.studies.verdicts import hypotheses_table, verdicts
from bckd.training.run_log import read_lines

REGIMES_FROM_STARTS = (
    *("fine-one", "fine-twelve", "fine-neu"),
    *("photographs", "photographs-shared", "photographs-shared-narrow"),
)
# What these left open.
FOLLOWING = (
    "fine-own-factors",
    "fine-neu-parts",
    "photographs-shared-tenth",
    "photographs-shared-tenth-swept",
    "photographs-shared-tenth-thresholds",
    "photographs-shared-tenth-boxes",
    "photographs-shared-none",
    "photographs-shared-none-apart",
    "photographs-shared-none-thresholds",
    "photographs-shared-confirm",
    "photographs-shared-none-pseudo",
    "photographs-shared-tenth-pseudo",
)
COMMON_STARTS = (
    "noise",
    "fine",
    "fine-shapes",
    "fine-search",
    "fine-confirm",
    *REGIMES_FROM_STARTS,
    *FOLLOWING,
)
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
    for name in (*REGIMES_FROM_STARTS, *FOLLOWING):
        assert ranking_table(lines[name]) in PAGE
        assert starts_table(lines[name]) in PAGE
    level = gains_of_parts(read("photographs-shared-tenth-boxes_swaps"), "softmax + L_loc")["level"]
    assert f"brings them {points(level).removeprefix('+')} points" in PAGE
    assert swap_table(swaps_without_labels(ROOT / "notebooks" / "results")) in PAGE
    assert swap_table(read("photographs-shared-none-pseudo_swaps")) in PAGE
    for family in FAMILIES:
        assert hypotheses_table(verdicts(lines, family)) in PAGE
    told = re.search(r"\d+ training runs .*; (\d+) more", PAGE)
    assert told and int(told[1]) == sum(len(read(x)) for x in COMMON_STARTS)


def test_the_page_tells_the_confirmed_method_by_regime(lines: dict[str, list[Line]]) -> None:
    """Its rows are the differences of the studies, in their order."""
    table = PAGE.partition("#### All of them")[2].partition("\n\n")[2].partition("\n\n")[0]
    found = [row.strip("| ").split(" | ")[1:] for row in table.splitlines()[2:]]
    names = ("fine-search", "fine-confirm", *REGIMES_FROM_STARTS)
    for name, row in zip(names, found, strict=True):
        compared = {line["method"] for line in lines[name]}
        assert row == [
            points(difference_on_images(lines[name], "softmax, then BCKD", other))
            if other in compared
            else "-"
            for other in ("BCKD", "softmax + L_loc", "softmax")
        ]


def test_the_page_tells_what_rounding_moves(lines: dict[str, list[Line]]) -> None:
    threads = read("noise_threads")
    assert {(line["method"], line["seed"]) for line in threads} == {
        (line["method"], line["seed"]) for line in lines["noise"] if line["seed"] < 6
    }
    runs = [rounding(lines["noise"], threads, x) for x in ("none", "softmax", "BCKD")]
    pairs = [
        rounding(lines["noise"], threads, *x)
        for x in (("softmax", "none"), ("BCKD", "none"), ("BCKD", "softmax"))
    ]
    none, softmax, bckd, *differences = (f"{100 * x:.1f}" for x in (*runs, *pairs))
    assert f"{none} points (none), {softmax} (softmax KD) and {bckd} (BCKD) a run" in PAGE
    assert f"of a difference of {', '.join(differences[:2])} and {differences[2]}" in PAGE


def read(name: str) -> list[Line]:
    return read_lines(ROOT / "notebooks" / "results" / f"{name}.jsonl")

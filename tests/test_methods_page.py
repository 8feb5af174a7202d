"""The page of published methods: its arithmetic, its sources and the measured numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bckd.bench.results import read_results
from bckd.losses.terms import TERMS
from bckd.studies.difference_text import points
from bckd.studies.noise import difference_on_images
from bckd.training.run_log import read_lines

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "notebooks/methods.md").read_text(encoding="utf-8")


def table(first: str) -> list[dict[str, str]]:
    """The rows below a header that begins so, by column."""
    lines = PAGE.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(first))
    head, _, *rows = (line.strip("|").split("|") for line in lines[start:] if line.startswith("|"))
    names = [name.strip() for name in head]
    whole = [row for row in rows if len(row) == len(head)]
    return [dict(zip(names, (x.strip() for x in row), strict=True)) for row in whole]


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"\d+\.\d+", text)]


def name_of(row: dict[str, str]) -> str:
    return next(iter(row.values()))


METHODS = table("| method, `term`")
FAMILIES = table("| family")


@pytest.mark.parametrize("row", [x for x in METHODS if numbers(x["honest gain"])], ids=name_of)
def test_a_gain_is_the_difference_to_the_twin(row: dict[str, str]) -> None:
    distilled, twins = numbers(row["AP"]), numbers(row["twin"])
    gains = [distilled[n] - twins[n] for n in range(len(distilled))]
    assert numbers(row["honest gain"])[: len(gains)] == pytest.approx(gains)


@pytest.mark.parametrize("row", METHODS, ids=name_of)
def test_a_gain_of_a_student_that_inherits_is_a_bound(row: dict[str, str]) -> None:
    if "yes" in row["inherits"]:
        assert "at most" in row["honest gain"] and "without" in row["twin"]


@pytest.mark.parametrize("row", [x for x in FAMILIES if "→" in x["alone → distilled"]], ids=name_of)
def test_a_range_of_gains_is_that_of_its_pairs(row: dict[str, str]) -> None:
    pairs = [numbers(x) for x in row["alone → distilled"].split(", ") if "→" in x]
    gains = [after - before for before, after in pairs]
    told = numbers(row["gain"])
    if " to " in row["gain"]:
        assert told == pytest.approx([min(gains), max(gains)])
    elif told:
        assert told == pytest.approx(gains)


def test_every_source_is_listed_and_every_listed_one_used() -> None:
    listed = set(re.findall(r"^(\d+)\. ", PAGE, flags=re.MULTILINE))
    used = {row["source"].removesuffix(" †") for row in METHODS + FAMILIES}
    assert listed == used


def test_milliseconds_are_those_of_the_bench() -> None:
    bench = ROOT / "notebooks/benchmarks/cpu.json"
    found = {x.name: 1e3 * x.seconds.median for x in read_results(bench).lines if x.part == "terms"}
    assert found.keys() == TERMS.keys()
    told = set()
    for row in METHODS:
        terms = re.findall(r"`(\w+)`", name_of(row))
        if terms:
            told |= {*terms}
            value = sum(found[name] for name in terms)
            assert row["ms more of a step"] == (f"{value:.0f}" if value >= 10 else f"{value:.1f}")
    assert told == TERMS.keys() - {"crosskd_bckd"}  # our own combination
    whole = next(x for x in read_results(bench).lines if x.name == "whole step")
    assert f"{1e3 * whole.seconds.median:,.0f} ms there" in PAGE


# The study's name of each method that has runs of ours.
OURS = {
    "BCKD": "BCKD",
    "LD": "LD",
    "FitNets": "FitNet",
    "fine-grained imitation": "fine-grained",
    "DeFeat": "DeFeat",
    "GI imitation": "GID",
    "CWD on maps": "CWD",
    "PKD": "PKD",
    "MGD": "MGD",
    "FGD": "FGD",
    "CrossKD": "CrossKD",
    "DIST": "DIST",
    "YOLOv6's self-distillation": "YOLOv6",
}


def test_ours_are_the_gains_from_common_starts() -> None:
    lines = read_lines(ROOT / "notebooks/results/fine.jsonl")
    told = {name_of(row).split(", `")[0]: row["ours"] for row in METHODS if row["ours"]}
    found = {
        title: points(difference_on_images(lines, method, "none")) for title, method in OURS.items()
    }
    assert told == found

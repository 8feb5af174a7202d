"""The page of published methods: its arithmetic, its sources and the place of measured numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "notebooks/methods.md").read_text(encoding="utf-8")


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


def test_measured_numbers_have_their_place() -> None:
    assert PAGE.count("<!-- measured -->") == 1
    assert {"ms of a step", "ours"} <= set(METHODS[0])

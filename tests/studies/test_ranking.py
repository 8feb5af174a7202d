"""The table of many methods: order, shares of the pull, differences and one family of tests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bckd.studies.by_start import starts_table
from bckd.studies.catalogue import STUDIES
from bckd.studies.noise import difference_on_images
from bckd.studies.ranking import FIELDS, pairs_table, pull_share, ranking_table
from bckd.studies.report import summary
from bckd.studies.statistics import holm
from bckd.studies.tables import COMPARED
from bckd.system.errors import InputError

GAINS = {"none": 0.0, "PKD": 0.01, "BCKD": 0.03}


def line(method: str, seed: int) -> dict[str, Any]:
    ap = 0.3 + GAINS[method] + 0.002 * seed + 0.001 * (seed % 2) * len(method)
    fields = {"AP": ap, "AP50": ap + 0.2, "AP75": ap + 0.1}
    tenths = {name: [x + 0.001 * (k % 3) for k in range(10)] for name, x in fields.items()}
    pulls = [{"qfl": 0.5, "giou": 0.1, "pkd": 0.4}, {"qfl": 0.6, "giou": 0.2, "pkd": 0.2}]
    records = [{"step": n, "pull": pull} for n, pull in enumerate(pulls)]
    base = {"part": "comparison", "method": method, "scale": 1.0, "seed": seed}
    return {**base, **fields, "without_tenth": tenths, "gradients": records}


LINES = [line(method, seed) for method in GAINS for seed in range(4)]


def test_the_share_is_that_of_the_distillation_terms() -> None:
    assert pull_share(LINES, "PKD") == pytest.approx(0.3)
    without = [{**x, "gradients": [{"step": 0}]} for x in LINES]
    assert math.isnan(pull_share(without, "PKD"))


def test_rows_best_first_with_differences_and_adjusted_p() -> None:
    head, _, *rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in ranking_table(LINES).splitlines()
    ]
    assert [row[0] for row in rows] == ["BCKD", "PKD", "none"]
    cells = dict(zip(head, rows[1], strict=True))
    assert cells["pull, %"] == "30" and rows[2][1] == "0"
    for title, reference in (("AP - none", "none"), ("AP - BCKD", "BCKD")):
        found = difference_on_images(LINES, "PKD", reference)
        told = f"{100 * found.mean:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
        assert cells[title] == told
    tests = [difference_on_images(LINES, name, "BCKD").p_value for name in ("PKD", "none")]
    assert cells["p, Holm"] == f"{holm(tests)[0]:.3f}" or holm(tests)[0] < 0.001
    assert rows[0][-2:] == ["-", "-"]


@pytest.mark.parametrize("missing", ["none", "BCKD"])
def test_a_missing_reference_is_told(missing: str) -> None:
    with pytest.raises(InputError, match=f"no run of '{missing}'"):
        ranking_table([x for x in LINES if x["method"] != missing])


def test_without_labels_gains_are_over_pseudo_labels() -> None:
    named = [
        {**x, "method": {"none": "pseudo-labels"}.get(x["method"], x["method"])} for x in LINES
    ]
    told, plain = ranking_table(named), ranking_table(LINES)
    assert told == plain.replace("none", "pseudo-labels")
    assert starts_table(named) == starts_table(LINES).replace("none", "pseudo-labels")
    beside = [*LINES, *({**x, "method": "pseudo-labels"} for x in LINES if x["method"] == "PKD")]
    head, *_, row = (row for row in ranking_table(beside).splitlines() if "pseudo" not in row)
    assert "AP - none" in head and row.startswith("| none | 0 |")


def test_pairs_at_each_measure() -> None:
    head, _, row = pairs_table(LINES, [("BCKD", "PKD")]).splitlines()
    assert head == "| difference | AP | AP50 | AP75 |"
    found = [difference_on_images(LINES, "BCKD", "PKD", field) for field in FIELDS]
    told = [f"{100 * x.mean:+.1f} [{100 * x.low:.1f}, {100 * x.high:.1f}]" for x in found]
    assert row == f"| BCKD - PKD | {' | '.join(told)} |"
    both = [{**x, "method": "a + b"} for x in LINES if x["method"] == "PKD"]
    assert "| BCKD - (a + b) |" in pairs_table([*LINES, *both], [("BCKD", "a + b")])
    with pytest.raises(InputError, match="no run of 'CWD'; it has"):
        pairs_table(LINES, [("BCKD", "CWD")])


@pytest.mark.parametrize("left_out", ["", "without_tenth"])
@pytest.mark.parametrize("alone", ["none", "pseudo-labels"])
def test_a_study_from_common_starts_is_told_by_it(left_out: str, alone: str) -> None:
    lines = [{k: v for k, v in x.items() if k != left_out} for x in LINES]
    measured = dict.fromkeys(COMPARED, 0.1)
    named = [
        {**x, **measured, "method": {"none": alone}.get(x["method"], x["method"])} for x in lines
    ]
    text = summary(STUDIES["fine"], named)
    assert (f"AP75 - {alone}" in text) == (not left_out)
    assert ("pairs" in text) == bool(left_out)

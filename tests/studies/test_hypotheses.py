"""What runs say of the hypotheses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bckd.commands.study import run
from bckd.studies.catalogue import STUDIES
from bckd.studies.hypotheses import FAMILIES, FAMILY, Hypothesis
from bckd.studies.statistics import Line
from bckd.studies.verdicts import hypotheses_table, verdicts
from bckd.system.errors import InputError

PAGE = Path(__file__).parents[2] / "notebooks" / "hypotheses.md"


def runs(method: str, values: list[float], field: str = "AP") -> list[Line]:
    """Runs whose measure does not depend on the images."""
    return [
        {
            "part": "comparison",
            "method": method,
            "seed": seed,
            "scale": 1.0,
            field: value,
            "without_tenth": {field: [value] * 10},
        }
        for seed, value in enumerate(values)
    ]


def study(**gains: list[float]) -> list[Line]:
    base = [0.30, 0.34, 0.32, 0.31]
    methods = {"none": [0.0] * 4, **gains}
    return [
        line
        for name, gain in methods.items()
        for line in runs(name, [a + b for a, b in zip(base, gain, strict=True)])
    ]


def claim(kind: str, reference: str = "none") -> dict[str, Hypothesis]:
    return {"A": Hypothesis("", kind, "s", "ours", (reference,))}


def word(kind: str, gains: list[float]) -> str:
    return verdicts({"s": study(ours=gains)}, claim(kind))["A"].word


def test_one_that_is_above_in_every_pair_holds() -> None:
    assert word("above", [0.05, 0.06, 0.05, 0.06]) == "holds"
    assert word("above", [-0.05, -0.06, -0.05, -0.06]) == "the opposite"
    assert word("above", [0.05, -0.06, 0.05, -0.05]) == "open"


def test_the_same_needs_an_interval_inside_the_margin() -> None:
    assert word("same", [0.001, -0.001, 0.001, -0.001]) == "holds"
    assert word("same", [0.01, 0.011, 0.012, 0.011]) == "open"
    assert word("same", [-0.01, -0.011, -0.012, -0.011]) == "open"
    assert word("same", [0.009, -0.009, 0.009, -0.009]) == "open"  # the mean alone is not enough


def test_not_worse_looks_at_one_side() -> None:
    assert word("not worse", [0.05, 0.06, 0.05, 0.06]) == "holds"
    assert word("not worse", [-0.001, 0.0, -0.001, 0.0]) == "holds"
    assert word("not worse", [-0.01, -0.011, -0.012, -0.011]) == "open"


def test_above_two_is_above_the_nearer_one() -> None:
    lines = study(near=[0.02, -0.02, 0.02, -0.01], ours=[0.02, 0.021, 0.02, 0.021])
    both = {"A": Hypothesis("", "above", "s", "ours", ("none", "near"))}
    found = verdicts({"s": lines}, both)["A"]
    assert found.word == "open" and len(found.differences) == 2  # "ours" was found beside them
    assert found.p_value == max(x.p_value for x in found.differences)
    assert found.differences[0].p_value < 0.01


def test_above_one_and_below_another_is_open() -> None:
    """However clear each is: the claim of both can't hold, and its opposite of both neither."""
    lines = study(near=[0.05, 0.051, 0.05, 0.051], ours=[0.02, 0.021, 0.021, 0.02])
    both = {"A": Hypothesis("", "above", "s", "ours", ("none", "near"))}
    found = verdicts({"s": lines}, both)["A"]
    assert all(x.p_value < 0.001 for x in found.differences)
    assert found.p_value == 1 and found.word == "open"


def test_those_without_runs_count_in_the_family() -> None:
    lines = {"fine": study(BCKD=[0.05, 0.07, 0.05, 0.06])}
    found = verdicts(lines)
    first = found["H1"]
    assert first.adjusted == pytest.approx(len(FAMILY) * first.p_value)
    assert {name for name, x in found.items() if x.word == "not run"} == FAMILY.keys() - {"H1"}
    single = verdicts({"s": study(ours=[0.1] * 4)[::4]}, claim("above"))["A"]
    assert single.word == "open" and math.isnan(single.differences[0].low)


def test_the_images_widen_the_interval() -> None:
    lines = study(ours=[0.03, 0.031, 0.03, 0.031])
    for line in lines:
        if line["method"] == "ours":
            line["without_tenth"]["AP"] = [line["AP"] + 0.01 * (-1) ** n for n in range(10)]
    assert verdicts({"s": lines}, claim("above"))["A"].word == "open"


def test_the_table_says_all_of_them() -> None:
    lines = {"fine": study(BCKD=[0.05, 0.07, 0.05, 0.06])}
    rows = hypotheses_table(verdicts(lines)).splitlines()
    assert len(rows) == 2 + len(FAMILY)
    assert rows[2].startswith("| H1 | BCKD is above no distillation | +5.8 [4.2, 7.3] | ")
    single = [line for line in lines["fine"] if line["seed"] == 0]
    assert "| +5.0 | 1 | 1 | open |" in hypotheses_table(verdicts({"fine": single}))
    assert rows[2].endswith(" | holds |") and rows[3].endswith(" | - | - | - | not run |")


def test_the_command_reads_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps(x) for x in study(BCKD=[0.05, 0.07, 0.05, 0.06])]
    (tmp_path / "fine.jsonl").write_text("\n".join(lines) + "\n")
    run(["hypotheses", "--results", str(tmp_path)])
    told = capsys.readouterr().out
    assert "| H1 | BCKD is above no distillation | +5.8" in told
    assert "\n| R5 | twelve classes: BCKD is above softmax KD | - | - | - | not run |\n" in told
    with pytest.raises(InputError, match=r"--results is .*absent, which is no folder; expected"):
        run(["hypotheses", "--results", str(tmp_path / "absent")])


def test_the_page_declares_the_families() -> None:
    text = PAGE.read_text()
    claims = {name: claim for family in FAMILIES for name, claim in family.items()}
    assert len(claims) == sum(map(len, FAMILIES))
    assert all(f"- **{name}** " in text for name in claims)
    for claim in claims.values():
        study = STUDIES[claim.study]
        compared = {method.name for method in study.methods} | {*study.shared}
        assert {claim.method, *claim.references} <= compared

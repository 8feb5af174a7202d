"""Results in a file and back, and beside earlier ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bckd.bench.results import LeftOut, Line, Machine, Results, Settings, read_results
from bckd.bench.table import faster, table_of
from bckd.bench.timing import Spread
from bckd.system.errors import InputError
from bckd.system.files import write_json

MACHINE = Machine(
    device="a GPU",
    threads=2,
    cores=4,
    system="Linux",
    python="3.12.0",
    torch="2.11.0",
    torchvision="0.26.0",
    cuda="13.0",
    bckd="0.1.0",
    peak=4e12,
    date="2026-01-01T00:00:00+00:00",
)
SETTINGS = Settings(
    preset="coco-r50",
    teacher="gfl on resnet101",
    device="cuda",
    batch_size=16,
    height=800,
    width=1344,
    precision="bf16",
    compile=True,
    repeat=20,
    workers=4,
    photographs="drawn",
)


def results(*medians: float) -> Results:
    """A line of each median, in seconds, with quartiles a tenth around it."""
    lines = [
        Line("step", f"line {n}", Spread(x, 0.9 * x, 1.1 * x, 5), 16, int(1e12), 3 * 10**9)
        for n, x in enumerate(medians)
    ]
    return Results(MACHINE, SETTINGS, tuple(lines), (LeftOut("export", "ONNX: no onnx"),))


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    written = results(0.5, 2.0)
    written.write(tmp_path / "bench.json")
    assert read_results(tmp_path / "bench.json") == written


def test_a_row_says_time_speed_and_share_of_the_peak() -> None:
    table = table_of(results(0.5))
    (row,) = (line for line in table.splitlines() if "line 0" in line)
    assert row.split() == [
        *("step", "line", "0", "500", "450", "to", "550", "32", "2", "50%", "3.00", "GB")
    ]
    assert "export: ONNX: no onnx" in table
    assert "faster" not in table


def test_quartiles_that_are_apart_are_marked() -> None:
    assert faster(Spread(1, 0.9, 1.1, 5), Spread(2, 1.2, 2.2, 5)) == (2.0, True)
    assert faster(Spread(1, 0.9, 1.3, 5), Spread(2, 1.2, 2.2, 5)) == (2.0, False)
    assert faster(Spread(2, 1.8, 2.2, 5), Spread(1, 0.9, 1.1, 5)) == (0.5, True)
    table = table_of(results(0.5, 1.0, 1.0, 7.0), results(1.0, 1.05, 0.5))
    rows = [line.split() for line in table.splitlines() if "line " in line]
    assert [row[-1] for row in rows] == ["2.00*", "1.05", "0.50*", "GB"]


def test_what_else_differs_is_told() -> None:
    before = replace(results(1.0), settings=replace(SETTINGS, batch_size=8))
    table = table_of(results(1.0), before)
    assert table.splitlines()[-1] == "batch_size was 8, is 16"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1], "holds no results of bckd bench"),
        ({"machine": {}}, "machine.device is missing"),
        ({"Machine": {}}, "machine is missing"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: object, sentence: str) -> None:
    write_json(tmp_path / "other.json", content)
    with pytest.raises(InputError, match=f"other.json.*{sentence}"):
        read_results(tmp_path / "other.json")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.json"):
        read_results(tmp_path / "absent.json")

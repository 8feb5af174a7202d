"""The log of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bckd.run_log import LOG, RunLog, read_lines, read_log


def write_steps(out: Path, first: int, steps: range) -> None:
    log = RunLog(out, first)
    for step in steps:
        log.write(step, {"loss": step / 2, "unweighted": {"qfl": 1.0 * step}})
    log.close()


def test_records_come_back(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    write_steps(tmp_path, 0, range(3))
    assert read_log(tmp_path) == [
        {"step": step, "loss": step / 2, "unweighted": {"qfl": step}} for step in range(3)
    ]


def test_lines_of_steps_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    write_steps(tmp_path, 0, range(6))
    write_steps(tmp_path, 4, range(4, 8))
    assert [line["step"] for line in read_log(tmp_path)] == list(range(8))


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    write_steps(tmp_path, 0, range(3))
    path = tmp_path / LOG
    path.write_text(path.read_text() + '{"step": 3, "lo')
    assert [line["step"] for line in read_lines(path)] == [0, 1, 2]
    write_steps(tmp_path, 3, range(3, 5))
    assert [line["step"] for line in read_log(tmp_path)] == [0, 1, 2, 3, 4]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write(0, {"metrics": {"AP": float("nan")}})
    log.close()
    text = (tmp_path / LOG).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {"AP": None}


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    write_steps(tmp_path, 0, range(3))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {"loss", "unweighted/qfl"}
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]


def test_tensorboard_forgets_steps_that_are_done_again(tmp_path: Path) -> None:
    """Killed after step 5, gone on from step 3 with another learning rate: one curve."""
    write_steps(tmp_path, 0, range(6))
    log = RunLog(tmp_path, 3)
    for step in (3, 4):
        log.write(step, {"loss": 100.0})
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in board.Scalars("loss")]
    assert found == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 100.0), (4, 100.0)]

"""The log of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from bckd.system.errors import InputError
from bckd.training.run_log import LOG, RunLog, read_lines, read_log


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


def test_a_full_disk_is_told_where_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard's own writer would raise in a thread, or at no time."""
    log = RunLog(tmp_path, 0)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log.board.file = RecordWriter(full.open("wb"))
    with pytest.raises(InputError, match="tfevents.* can't be written: No space left"):
        log.write(0, {"loss": 1.0})
    log.path = full
    with pytest.raises(InputError, match="/dev/full can't be written: No space left"):
        log.write(0, {"loss": 1.0})


@pytest.mark.parametrize("line", [b"nothing\n", b"\xff\n", b"3\n", b'{"step": "one"}\n', b"\n"])
def test_a_garbled_line_is_left_out_and_told(
    tmp_path: Path, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_steps(tmp_path, 0, range(2))
    path = tmp_path / LOG
    path.write_bytes(path.read_bytes() + line)
    write_steps(tmp_path, 2, range(2, 4))
    assert f"{path}: lines that hold no record are left out (1): line 3" in capsys.readouterr().out
    assert [x["step"] for x in read_log(tmp_path)] == [0, 1, 2, 3]

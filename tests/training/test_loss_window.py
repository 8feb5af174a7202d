"""What a log line says of several steps."""

from __future__ import annotations

import pytest
import torch

from bckd.training import loss_window
from bckd.training.loss_window import LossWindow


def add(window: LossWindow, **terms: float) -> None:
    """A step of four images whose terms weigh twice."""
    values = {name: torch.tensor(value) for name, value in terms.items()}
    window.add(values, {name: 2 * value for name, value in values.items()}, 4)


def test_means_over_the_steps_and_a_new_start() -> None:
    window = LossWindow()
    add(window, qfl=1.0)
    add(window, qfl=3.0)
    record = window.close()
    assert record["unweighted"] == {"qfl": 2.0} and record["weighted"] == {"qfl": 4.0}
    assert record["loss"] == 4.0 and record["images_per_second"] > 0
    add(window, qfl=7.0)
    assert window.close()["unweighted"] == {"qfl": 7.0}


def test_a_term_of_some_steps_has_its_own_mean_and_its_share_of_the_loss() -> None:
    window = LossWindow()
    add(window, qfl=1.0)
    add(window, qfl=1.0, binary=5.0)
    record = window.close()
    assert record["unweighted"] == {"qfl": 1.0, "binary": 5.0}
    assert record["weighted"] == {"qfl": 2.0, "binary": 5.0}
    assert record["loss"] == 7.0


def test_the_line_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here three, of which the others have losses and images as this one."""
    monkeypatch.setattr(loss_window, "process_count", lambda: 3)
    monkeypatch.setattr(loss_window, "mean_over_processes", lambda value: value + 1)
    ticks = iter([10.0, 12.0, 12.0])
    monkeypatch.setattr(loss_window.time, "perf_counter", lambda: next(ticks))
    window = LossWindow()
    add(window, qfl=1.0)
    record = window.close()
    assert record["unweighted"] == {"qfl": 2.0}
    assert record["images_per_second"] == 3 * 4 / 2


def test_time_before_the_first_batch_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 50.0, 54.0, 54.0])
    monkeypatch.setattr(loss_window.time, "perf_counter", lambda: next(ticks))
    window = LossWindow()
    window.wait(40.0)
    window.from_now()
    add(window, qfl=1.0)
    record = window.close()
    assert (record["images_per_second"], record["data_wait"]) == (1.0, 0.0)


def test_time_that_no_step_took_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 16.0, 16.0])
    monkeypatch.setattr(loss_window.time, "perf_counter", lambda: next(ticks))
    window = LossWindow()
    add(window, qfl=1.0)
    window.skip(4.0)
    assert window.close()["images_per_second"] == 4 / 2


def test_the_wait_for_batches_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 16.0, 16.0, 18.0, 18.0])
    monkeypatch.setattr(loss_window.time, "perf_counter", lambda: next(ticks))
    window = LossWindow()
    for seconds in (0.5, 1.0):
        window.wait(seconds)
        add(window, qfl=1.0)
    assert window.close()["data_wait"] == 1.5 / 6
    add(window, qfl=1.0)
    assert window.close()["data_wait"] == 0

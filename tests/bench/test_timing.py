from __future__ import annotations

import torch

from bckd.bench.timing import Clock, Spread, timed

CPU = torch.device("cpu")


def test_quartiles_of_some_measurements() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_a_clock_says_what_was_done_since_the_mark_before() -> None:
    clock = Clock(CPU)
    for name in ("start", "one", "two"):
        clock.mark(name)
    assert [name for name, _ in clock.read()] == ["one", "two"]
    assert clock.read() == []


def test_warming_up_is_not_counted() -> None:
    calls: list[None] = []
    spread = timed(lambda: calls.append(None), CPU, repeat=3, warm_up=2)
    assert (len(calls), spread.count) == (5, 3)
    assert 0 < spread.lower <= spread.median <= spread.upper

"""How long something takes: on a GPU by its own clock, on a CPU by the host's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and their quartiles, in seconds.

    Attributes:
        lower, upper: the first and the third quartile.
        count: how many they are.
    """

    median: float
    lower: float
    upper: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of one measurement or more."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, lower, upper, len(seconds))


class Clock:
    """Notes when each thing is done, without waiting for it.

    On a GPU what is noted is when its stream gets there, so that the host runs ahead as ever.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []

    def mark(self, name: str) -> None:
        """What was asked for since the last mark goes by this name."""
        self._marks.append((name, self._now()))

    def read(self) -> list[tuple[str, float]]:
        """Name and seconds of all that was done since the first mark, in order; forgets it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        marks, self._marks = self._marks, []
        pairs = zip(marks, marks[1:], strict=False)
        return [(name, _seconds(before, now)) for (_, before), (name, now) in pairs]

    def _now(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def _seconds(before: float | torch.cuda.Event, now: float | torch.cuda.Event) -> float:
    if isinstance(before, float) or isinstance(now, float):
        assert isinstance(before, float) and isinstance(now, float)  # of one clock
        return now - before
    return before.elapsed_time(now) / 1000


def timed(work: Callable[[], object], device: torch.device, repeat: int, warm_up: int) -> Spread:
    """How long `work` takes, which is done `warm_up` times before; its results are dropped."""
    return Spread.of(times(work, device, repeat, warm_up))


def times(
    work: Callable[[], object], device: torch.device, repeat: int, warm_up: int
) -> list[float]:
    """As `timed`, each measurement."""
    for _ in range(warm_up):
        work()
    clock = Clock(device)
    clock.mark("start")
    for _ in range(repeat):
        work()
        clock.mark("work")
    return [seconds for _, seconds in clock.read()]

"""What one log line says of the steps since the last one."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bckd.system.distributed import mean_over_processes, process_count
from bckd.system.values import CountOrZero


@dataclass(frozen=True)
class HeldWindow:
    """A window that is not closed yet, as plain values: steps, and sums of each term over them."""

    steps: CountOrZero = 0
    sums: dict[str, float] = field(default_factory=dict)
    weighted: dict[str, float] = field(default_factory=dict)
    counts: dict[str, CountOrZero] = field(default_factory=dict)


class LossWindow:
    """Means of the loss terms since the last log line, kept on the device until asked for.

    The mean of a term over processes is the term of the whole batch (see `bckd.groups`).
    """

    sums: dict[str, Tensor]
    weighted: dict[str, Tensor]
    counts: Counter[str]

    def __init__(self) -> None:
        self._start()

    def held(self) -> HeldWindow:
        """What a run resumed in its middle needs to close this window; all processes ask."""
        if self.steps == 0:
            return HeldWindow()
        sums, weighted = (_means_over_processes(x) for x in (self.sums, self.weighted))
        return HeldWindow(self.steps, sums, weighted, dict(self.counts))

    def take(self, held: HeldWindow, device: torch.device) -> None:
        """Go on with the window that `held` came from; the speed is that of the steps to come."""
        self.sums, self.weighted = (
            {name: torch.tensor(value, device=device) for name, value in values.items()}
            for values in (held.sums, held.weighted)
        )
        self.counts, self.steps = Counter(held.counts), held.steps

    def _start(self) -> None:
        self.sums, self.weighted, self.counts = {}, {}, Counter()
        self.steps, self.images, self.since = 0, 0, time.perf_counter()
        self.waited = 0.0

    def add(self, terms: dict[str, Tensor], weighted: dict[str, Tensor], images: int) -> None:
        """Count a step: its unweighted and weighted terms (scalars), and its images."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
            self.weighted[name] = self.weighted.get(name, 0) + weighted[name].detach()
            self.counts[name] += 1
        self.steps, self.images = self.steps + 1, self.images + images

    def wait(self, seconds: float) -> None:
        """Count time in which this process had no batch to go on with."""
        self.waited += seconds

    def from_now(self) -> None:
        """Leave out all time before."""
        self.since, self.waited = time.perf_counter(), 0.0

    def skip(self, seconds: float) -> None:
        """Leave out time that no step took, such as an evaluation's."""
        self.since += seconds

    def close(self) -> dict[str, Any]:
        """Unweighted and weighted means, images a second; starts the next window.

        `data_wait` is the share of this process's time in which it waited for a batch.
        """
        sums, totals = (_means_over_processes(x) for x in (self.sums, self.weighted))
        means = {name: value / self.counts[name] for name, value in sums.items()}
        weighted = {name: value / self.steps for name, value in totals.items()}
        seconds, waited = time.perf_counter() - self.since, self.waited
        speed = process_count() * self.images / seconds
        self._start()
        return {
            "loss": sum(weighted.values()),
            "unweighted": means,
            "weighted": weighted,
            "images_per_second": speed,
            "data_wait": waited / seconds,
        }


def _means_over_processes(values: dict[str, Tensor]) -> dict[str, float]:
    means = mean_over_processes(torch.stack(list(values.values())))
    return dict(zip(values, means.tolist(), strict=True))

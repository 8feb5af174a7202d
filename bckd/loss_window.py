"""What one log line says of the steps since the last one."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from bckd.distributed import mean_over_processes, process_count


class LossWindow:
    """Means of the loss terms since the last log line, kept on the device until asked for.

    The mean of a term over processes is the term of the whole batch (see `bckd.groups`).
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weighted: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.steps, self.images, self.since = 0, 0, time.perf_counter()

    def add(self, terms: dict[str, Tensor], weighted: dict[str, Tensor], images: int) -> None:
        """Count a step: its unweighted and weighted terms (scalars), and its images."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
            self.weighted[name] = self.weighted.get(name, 0) + weighted[name].detach()
            self.counts[name] += 1
        self.steps, self.images = self.steps + 1, self.images + images

    def skip(self, seconds: float) -> None:
        """Leave out time that no step took, such as an evaluation's."""
        self.since += seconds

    def close(self) -> dict[str, Any]:
        """Unweighted and weighted means, images a second; starts the next window."""
        sums, totals = (_means_over_processes(x) for x in (self.sums, self.weighted))
        means = {name: value / self.counts[name] for name, value in sums.items()}
        weighted = {name: value / self.steps for name, value in totals.items()}
        speed = process_count() * self.images / (time.perf_counter() - self.since)
        self._start()
        return {
            "loss": sum(weighted.values()),
            "unweighted": means,
            "weighted": weighted,
            "images_per_second": speed,
        }


def _means_over_processes(values: dict[str, Tensor]) -> dict[str, float]:
    means = mean_over_processes(torch.stack(list(values.values())))
    return dict(zip(values, means.tolist(), strict=True))

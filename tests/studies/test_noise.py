"""Sources of noise, of runs whose sources are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bckd.studies.noise import (
    difference_on_images,
    difference_on_starts,
    image_error,
    noise_of,
    repeated,
    rounding,
)
from bckd.studies.statistics import Line
from bckd.studies.tables import noise_table

STARTS = 400  # many, so that the parts are found to a tenth


def line(method: str, seed: int, ap: float, tenths: list[float] | None = None) -> Line:
    without = {"AP": tenths or [ap] * 10}
    kept = {"part": "comparison", "method": method, "seed": seed, "scale": 1.0}
    return kept | {"AP": ap, "without_tenth": without}


@pytest.fixture
def runs() -> Callable[[float, float], list[Line]]:
    """A method whose gain over another differs by start and by order; the other by start alone."""

    def make(of_start: float, of_order: float) -> list[Line]:
        rng = np.random.default_rng(0)
        levels, gains = rng.normal(0.4, 0.1, STARTS), rng.normal(0.02, of_start, STARTS)
        found = []
        for seed in range(2 * STARTS):
            level = levels[seed % STARTS]
            found.append(line("none", seed, level))
            ours = level + gains[seed % STARTS] + rng.normal(0, of_order)
            found.append(line("ours", seed, ours))
        return found

    return make


def test_parts_of_a_difference_are_found(runs: Callable[[float, float], list[Line]]) -> None:
    noise = noise_of(runs(0.003, 0.004), STARTS, "ours", "none")
    assert noise.start == pytest.approx(0.003, rel=0.15)
    assert noise.order == pytest.approx(0.004, rel=0.1)
    assert noise.runs == pytest.approx(0.005, rel=0.1)
    assert (noise.images, noise.count) == (0.0, 2 * STARTS)


def test_a_method_alone_has_the_noise_of_its_starts(
    runs: Callable[[float, float], list[Line]],
) -> None:
    lines = runs(0.0, 0.004)
    assert noise_of(lines, STARTS, "ours", None).start == pytest.approx(0.1, rel=0.1)
    assert noise_of(lines, STARTS, "ours", "none").start < 0.0015


def test_rounding_is_the_deviation_of_one_run() -> None:
    rng = np.random.default_rng(1)
    pairs = rng.normal(0.4, 0.002, (500, 2))
    ours, theirs = ([line("none", n, ap) for n, ap in enumerate(row)] for row in pairs.T)
    assert rounding(ours, theirs, "none") == pytest.approx(0.002, rel=0.1)
    gained = rng.normal(0.02, 0.003, (500, 2))  # more than none, each by itself
    more = ([line("ours", n, ap) for n, ap in enumerate(row)] for row in (pairs + gained).T)
    ours, theirs = (runs + own for runs, own in zip((ours, theirs), more, strict=True))
    assert rounding(ours, theirs, "ours", "none") == pytest.approx(0.003, rel=0.1)


def test_images_widen_the_interval_of_runs() -> None:
    """Runs that agree to the last digit say nothing of other images: these have their own error."""
    tenths = [0.40 + 0.001 * n for n in range(10)]
    lines = [line("none", seed, 0.4, [0.4] * 10) for seed in range(5)]
    lines += [line("ours", seed, 0.41, tenths) for seed in range(5)]
    found = difference_on_images(lines, "ours", "none")
    of_images = math.sqrt(0.9 * sum((x - np.mean(tenths)) ** 2 for x in tenths))
    assert found.error == pytest.approx(of_images)
    assert found.high - found.mean == pytest.approx(2.776 * of_images, rel=1e-3)  # t, 4 degrees


def test_another_order_is_no_other_start(runs: Callable[[float, float], list[Line]]) -> None:
    """Runs made twice say no more than once; without noise of the order they are the starts'."""
    once = runs(0.003, 0.004)
    twice = [*once, *({**line, "seed": line["seed"] + 1000 * STARTS} for line in once)]
    found, again = (difference_on_starts(x, STARTS, "ours", "none") for x in (once, twice))
    assert (again.low, again.high) == pytest.approx((found.low, found.high))
    assert found.count == again.count == STARTS
    naive = difference_on_images(once, "ours", "none")
    assert naive.mean == pytest.approx(found.mean) and naive.count > STARTS
    means = [
        np.mean(
            [
                x["AP"] * (1 if x["method"] == "ours" else -1) * 2
                for x in once
                if x["seed"] % STARTS == n
            ]
        )
        for n in range(STARTS)
    ]
    of_starts = np.std(means, ddof=1) / math.sqrt(STARTS)
    assert found.error == pytest.approx(math.hypot(of_starts, image_error(once, "ours", "none")))


def test_a_table_of_noise_has_a_row_a_pair(runs: Callable[[float, float], list[Line]]) -> None:
    lines = runs(0.003, 0.004)
    head, _, row = noise_table(lines, STARTS).splitlines()
    assert head.count("|") == row.count("|")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "ours - none" and cells[1] == "+2.0"
    assert [float(cell) for cell in cells[3:]] == pytest.approx([0.3, 0.4, 0.0, 0.5], abs=0.051)


def test_noise_needs_two_runs_from_each_start(runs: Callable[[float, float], list[Line]]) -> None:
    lines = runs(0.003, 0.004)
    assert repeated(lines, STARTS)
    assert not repeated(lines[:-1], STARTS) and not repeated([], STARTS)

"""How much of AP is noise, and from where: start, order of images, rounding, images to judge on.

Of runs from common starts (`bckd.studies.common_starts`). Seeds that leave the same rest when they
are divided by the number of starts go on from one start, with other orders of the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bckd.evaluation.leaving_out import error_of_images
from bckd.studies.statistics import Difference, Line, interval_of, paired, values


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a run, in the unit of its AP, by source.

    Attributes:
        start: between starts, beyond what `order` explains (a variance below 0 counts as 0).
        order: between runs from one start, which differ in the order and flips of images.
        images: standard error by the choice of images, of one run.
        runs: all runs together, as starts and orders come; of `count` of them.
    """

    start: float
    order: float
    images: float
    runs: float
    count: int


def noise_of(lines: Iterable[Line], starts: int, method: str, reference: str | None) -> Noise:
    """Of a method's AP, or of its paired difference to a reference.

    One-way analysis of variance with random effects: runs within starts.

    Args:
        lines: of a study with `starts` common starts, as many runs from each, two or more.

    Raises:
        InputError: a run lacks what is asked for.
    """
    lines = list(lines)
    theirs = None if reference is None else values(lines, reference)
    found = _differences(values(lines, method), theirs)
    groups = _of_starts(found, starts)
    repeats = min(map(len, groups.values()))
    within = math.fsum(_variance(group) for group in groups.values()) / len(groups)
    between = _variance([_mean(group) for group in groups.values()])
    without = _without_tenths(lines, method, reference)
    images = [error_of_images(run) for run in without.values()]
    return Noise(
        start=math.sqrt(max(between - within / repeats, 0.0)),
        order=math.sqrt(within),
        images=math.sqrt(_mean([error**2 for error in images])),
        runs=math.sqrt(_variance([*found.values()])),
        count=len(found),
    )


def repeated(lines: Iterable[Line], starts: int) -> bool:
    """Whether every start has two runs or more of each method, from which noise can be told."""
    runs: dict[tuple[str, int], int] = {}
    for line in lines:
        if line["part"] == "comparison":
            key = (line["method"], line["seed"] % starts)
            runs[key] = runs.get(key, 0) + 1
    return bool(runs) and min(runs.values()) > 1


def rounding(
    lines: Iterable[Line], others: Iterable[Line], method: str, reference: str | None = None
) -> float:
    """The standard deviation of AP by rounding alone: the same runs with other sums.

    Args:
        lines, others: of the same starts and orders, computed with other numbers of threads.
        reference: a method whose AP is subtracted; None: the method's AP itself.
    """
    ours, theirs = (
        _differences(values(runs, method), None if reference is None else values(runs, reference))
        for runs in (list(lines), list(others))
    )
    gaps = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return math.sqrt(_mean([gap**2 for gap in gaps]) / 2)


def difference_on_images(
    lines: Iterable[Line], method: str, reference: str, field: str = "AP"
) -> Difference:
    """AP of a method minus the reference's, as it would be on other runs and on other images.

    The variance of the mean over the pairs, and that by the choice of images of the same mean,
    are added; of the former Student's t has its degrees of freedom.

    Args:
        lines: runs that say their AP without each tenth of the images.
        field: "AP", "AP50" or "AP75".
    """
    lines = list(lines)
    found = paired(values(lines, method, field), values(lines, reference, field))
    error = math.hypot(found.error, image_error(lines, method, reference, field))
    return interval_of(found.mean, error, found.count)


def difference_on_starts(
    lines: Iterable[Line], starts: int, method: str, reference: str
) -> Difference:
    """As `difference_on_images`, where several runs go on from a start: their mean counts as one.

    Runs from one start are alike in what it is worth, so they are no pairs of their own.

    Args:
        lines: of a study with `starts` common starts; of runs that say their AP without each tenth
            of the images.
    """
    lines = list(lines)
    groups = _of_starts(_differences(values(lines, method), values(lines, reference)), starts)
    means = {start: _mean(group) for start, group in groups.items()}
    found = paired(means, dict.fromkeys(means, 0.0))
    error = math.hypot(found.error, image_error(lines, method, reference))
    return interval_of(found.mean, error, found.count)


def image_error(lines: Iterable[Line], method: str, reference: str, field: str = "AP") -> float:
    """The standard error of a mean difference by the choice of the images judged on.

    Args:
        lines: runs that say their AP without each tenth of the images.
        field: "AP", "AP50" or "AP75".
    """
    without = _without_tenths(list(lines), method, reference, field)
    return error_of_images([_mean(tenth) for tenth in zip(*without.values(), strict=True)])


def _without_tenths(
    lines: list[Line], method: str, reference: str | None, field: str = "AP"
) -> dict[int, list[float]]:
    """By seed, the measure, or the difference of two, without each tenth of the images."""

    def of(name: str) -> dict[int, list[float]]:
        runs = [x for x in lines if (x["part"], x["method"]) == ("comparison", name)]
        return {run["seed"]: run["without_tenth"][field] for run in runs}

    ours = of(method)
    if reference is None:
        return ours
    theirs = of(reference)
    return {
        seed: [a - b for a, b in zip(ours[seed], theirs[seed], strict=True)]
        for seed in ours
        if seed in theirs
    }


def _differences(ours: dict[int, float], theirs: dict[int, float] | None) -> dict[int, float]:
    if theirs is None:
        return ours
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def _of_starts(found: dict[int, float], starts: int) -> dict[int, list[float]]:
    """The values of seeds by the start that these go on from."""
    groups: dict[int, list[float]] = {}
    for seed, value in found.items():
        groups.setdefault(seed % starts, []).append(value)
    return groups


def _mean(found: Sequence[float]) -> float:
    return math.fsum(found) / len(found)


def _variance(found: Sequence[float]) -> float:
    """With n - 1; 0 of one value."""
    mean = _mean(found)
    return math.fsum((x - mean) ** 2 for x in found) / max(len(found) - 1, 1)

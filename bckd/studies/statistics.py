"""Means, paired differences and their uncertainty from the lines of a study.

A line is one training run as a dict: its part ("sweep" or "comparison"), method, scale,
seed and what was measured. Two runs of one seed share data, initial weights and the order
of images, so methods are compared by the differences of their pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bckd.system.errors import InputError

Line = dict[str, Any]

# The order of tables and legends; results files hold runs in the order they ended.
ORDER = ("none", "softmax", "LD", "L_cls", "L_loc", "softmax + L_loc", "BCKD", "self")


@dataclass(frozen=True)
class Summary:
    """Runs of one method.

    Attributes:
        mean: nan where there is no value.
        error: standard error of the mean, nan for fewer than two values.
        count: number of values.
        values: the finite values, in the order given.
    """

    mean: float
    error: float
    count: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, in the unit of the values.

    Attributes:
        mean: of the differences.
        error: standard error of the mean; nan for one pair.
        low, high: Student's t interval around the mean; nan for one pair.
        count: number of pairs.
        p_value: two-sided paired t-test that the mean is 0; nan for one pair.
    """

    mean: float
    error: float
    low: float
    high: float
    count: int
    p_value: float


def summarise(values: Iterable[float]) -> Summary:
    """Mean and standard error; values that aren't finite (failed runs) are left out."""
    finite = tuple(value for value in values if math.isfinite(value))
    if not finite:
        return Summary(math.nan, math.nan, 0, ())
    # fsum: the mean does not depend on the order of the values, so equal sweeps tie exactly.
    count = len(finite)
    mean = math.fsum(finite) / count
    if count == 1:
        return Summary(mean, math.nan, 1, finite)
    variance = math.fsum((value - mean) ** 2 for value in finite) / (count - 1)
    return Summary(mean, math.sqrt(variance / count), count, finite)


def paired(a: dict[int, float], b: dict[int, float], level: float = 0.95) -> Difference:
    """The differences a - b over the seeds at which both have a finite value.

    A failed run takes its pair out, so a method that fails at some seeds is compared on those
    at which it works: report the failures beside the difference.

    Args:
        a: value of each seed.
        b: the same of the reference.
        level: coverage of the interval, between 0 and 1.

    Raises:
        InputError: no seed is common, or `level` is out of range.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1")
    seeds = [s for s in a if s in b and math.isfinite(a[s]) and math.isfinite(b[s])]
    if not seeds:
        raise InputError(
            f"no seed has a value in both methods (seeds {sorted(a)} and {sorted(b)}); "
            f"expected at least one"
        )
    found = summarise(a[seed] - b[seed] for seed in seeds)
    return interval_of(found.mean, found.error, found.count, level)


def interval_of(mean: float, error: float, count: int, level: float = 0.95) -> Difference:
    """A mean difference over `count` pairs with its standard error, as Student's t takes it."""
    freedom = count - 1
    if freedom == 0:
        return Difference(mean, error, math.nan, math.nan, 1, math.nan)
    from scipy import stats  # late: it loads for a second, which listing studies need not wait

    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    if error == 0:
        p_value = 1.0 if mean == 0 else 0.0  # the limits of the test; t itself is a division by 0
    else:
        p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Difference(mean, error, mean - half, mean + half, count, p_value)


def values(
    lines: Iterable[Line],
    method: str,
    field: str = "AP",
    part: str = "comparison",
    scale: float | None = None,
) -> dict[int, float]:
    """One field of a method's runs by seed, in the order of the seeds; empty without runs.

    The AP of a failed run is 0 in the sweep, since a weight that diverges is a bad weight.
    Everything else that was not measured is nan.

    Args:
        lines: of one study and one number of steps.
        method: name of the method.
        field: "AP", or a name in a dict, such as "tide.Cls".
        part: "sweep" or "comparison".
        scale: factor on the published weights; None where the part has one scale only.

    Raises:
        InputError: a run that did not fail lacks the field, a seed occurs twice, or the runs
            have several scales and none is named.
    """
    found: dict[int, float] = {}
    scales: set[float] = set()
    for line in lines:
        if (line["method"], line["part"]) != (method, part) or scale not in (None, line["scale"]):
            continue
        scales.add(line["scale"])
        if len(scales) > 1:
            raise InputError(f"{method} has the scales {sorted(scales)} in the {part}; name one")
        if line["seed"] in found:
            raise InputError(
                f"{method} has two runs of seed {line['seed']} in the {part}; "
                f"expected the lines of one study and one number of steps"
            )
        found[line["seed"]] = _value(line, field)
    return dict(sorted(found.items()))


def failed(line: Line) -> bool:
    """Whether the run ended without an AP."""
    return line.get("AP") is None


def in_order(methods: Iterable[str]) -> list[str]:
    """Each method once: those of `ORDER` first, then the others as they occur."""
    found = dict.fromkeys(methods)
    return [m for m in ORDER if m in found] + [m for m in found if m not in ORDER]


def methods_of(lines: Iterable[Line], part: str = "comparison") -> list[str]:
    """The methods of a part, in the order of tables and legends."""
    return in_order(line["method"] for line in lines if line["part"] == part)


def scales_of(lines: Iterable[Line], method: str, part: str = "sweep") -> list[float]:
    """The scales of a method's runs, ascending."""
    return sorted({x["scale"] for x in lines if (x["method"], x["part"]) == (method, part)})


def best_scale(lines: Iterable[Line], method: str) -> float:
    """The scale of the highest mean AP over the seeds that the sweep has of all its scales.

    Means over unlike seeds do not compare. Of equal means the one nearest to 1, by ratio; of 1/x
    and x the smaller. The largest scale of all, beyond which nothing was tried, gives way to the
    one below where three or more seeds compare the two and leave open which is ahead (95 %
    interval of the pairs).

    Raises:
        InputError: the sweep has no run of the method, no seed of all scales, or a scale is not
            positive.
    """
    lines = list(lines)
    scales = scales_of(lines, method)
    if not scales:
        raise InputError(f"the sweep has no run of {method!r}; it has {methods_of(lines, 'sweep')}")
    if scales[0] <= 0:
        raise InputError(f"the sweep of {method} has the scale {scales[0]:g}; expected above 0")
    runs = {s: values(lines, method, part="sweep", scale=s) for s in scales}
    seeds = set.intersection(*map(set, runs.values()))
    if not seeds:
        raise InputError(f"the sweep of {method} has no seed that all its scales have")
    means = {s: math.fsum(runs[s][seed] for seed in seeds) / len(seeds) for s in scales}
    best = max(scales, key=lambda s: (means[s], -round(abs(math.log(s)), 9)))
    if best != scales[-1] or len(scales) == 1:
        return best
    largest, below = runs[scales[-1]], runs[scales[-2]]
    is_open = len(largest.keys() & below.keys()) >= 3 and paired(largest, below).low <= 0
    return scales[-2] if is_open else best


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests, in the order given: Holm's step-down.

    A nan (a test that could not be made) stays nan and does not count.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    Raises:
        InputError: a value is outside 0..1.
    """
    wrong = [p for p in p_values if not (math.isnan(p) or 0 <= p <= 1)]
    if wrong:
        raise InputError(f"a p value is {wrong[0]}; expected 0..1")
    order = sorted(
        (n for n, p in enumerate(p_values) if not math.isnan(p)), key=p_values.__getitem__
    )
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, position in enumerate(order):
        # No test is adjusted below one with a smaller p value.
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def runs_needed(
    difference: float, deviation: float, power: float = 0.8, level: float = 0.95
) -> int:
    """The least number of pairs that show a difference with this probability.

    So often does a two-sided paired t-test at 1 - `level` find it, if the pairs' differences spread
    normally around `difference`. As many pairs as bring the half width of `paired`'s interval
    down to the difference would find it about every second time only.

    Args:
        difference: true mean of the paired differences; the sign does not matter.
        deviation: their standard deviation, in the same unit.
        power: probability of finding it, between 0 and 1.
        level: coverage of the interval, between 0 and 1.

    Raises:
        InputError: a value is out of range, or the difference is so small that a million pairs
            are too few.
    """
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise InputError(f"{name} is {share}; expected a number between 0 and 1")
    if difference == 0 or not deviation > 0:
        raise InputError(
            f"difference is {difference} and deviation {deviation}; expected a difference other "
            f"than 0 and a deviation above 0"
        )
    from scipy import stats  # late, as above

    def enough(count: int) -> bool:
        bound = stats.t.ppf((1 + level) / 2, count - 1)
        shift = abs(difference) / deviation * math.sqrt(count)
        return float(stats.nct.sf(bound, count - 1, shift)) >= power

    highest = 2
    while not enough(highest):
        highest *= 2
        if highest > 2**20:
            raise InputError(
                f"a difference of {difference} at a deviation of {deviation} needs over a "
                f"million pairs; expected a larger difference"
            )
    # The power grows with the number of pairs, so the least one lies above half of it.
    return next(n for n in range(max(2, highest // 2), highest + 1) if enough(n))


def _value(line: Line, field: str) -> float:
    if failed(line):
        return 0.0 if field == "AP" and line["part"] == "sweep" else math.nan
    # One level deep: a name such as "0.1" in "f1.0.1" holds a dot of its own.
    name, dot, key = field.partition(".")
    missing = object()
    value = line.get(name, missing)
    if dot and value is not None:
        value = value.get(key, missing) if isinstance(value, dict) else missing
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise InputError(
            f"the run of {line['method']}, seed {line['seed']}, has no number {field!r}; "
            f"expected one of its fields, or a field and a key joined by a dot"
        )
    return float(value)

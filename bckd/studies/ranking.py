"""The table of a study with many methods from common starts: how hard each pulls, what it gains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bckd.losses.terms import TERMS
from bckd.studies.difference_text import p_value_text, points
from bckd.studies.methods import PSEUDO
from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import Line, holm, methods_of, summarise, values
from bckd.studies.tables import table
from bckd.system.errors import InputError

FIELDS = ("AP", "AP50", "AP75")


def pull_share(lines: Iterable[Line], method: str) -> float:
    """The distillation's mean share of the gradient on the student's weights in a comparison.

    Mean over the runs and over the steps at which they noted it; nan where none did.
    """
    shares = [
        math.fsum(share for term, share in record["pull"].items() if term in TERMS)
        for line in lines
        if (line["part"], line["method"]) == ("comparison", method)
        for record in line.get("gradients", ())
        if "pull" in record
    ]
    return math.fsum(shares) / len(shares) if shares else math.nan


def alone_of(lines: Iterable[Line]) -> str:
    """What a study's gains are over: none; where nobody learns without a teacher, pseudo-labels."""
    present = methods_of(lines)
    return PSEUDO if PSEUDO in present and "none" not in present else "none"


def ranking_table(lines: Iterable[Line]) -> str:
    """One row a method, best first: share of the pull, means, differences to none and to BCKD.

    Without labels none has no run, and pseudo-labels take its place. Intervals are over runs and
    over the images judged on (`difference_on_images`). p is that of AP minus BCKD's, by Holm's rule
    over all methods of the table.

    Args:
        lines: of one study; the sweep in it is passed over.

    Raises:
        InputError: there is no run of none (pseudo-labels) or of BCKD.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    methods, alone = methods_of(lines), alone_of(lines)
    for name in (alone, "BCKD"):
        if name not in methods:
            raise InputError(f"the comparison has no run of {name!r}; it has {methods}")
    order = sorted(methods, key=lambda name: -_mean(lines, name, "AP"))
    others = [name for name in order if name != "BCKD"]
    tests = [difference_on_images(lines, name, "BCKD").p_value for name in others]
    adjusted = dict(zip(others, holm(tests), strict=True))
    rows = [_row(lines, name, adjusted.get(name, math.nan)) for name in order]
    last = ["AP - BCKD", "p, Holm"]
    gains = [f"AP - {alone}", f"AP75 - {alone}"]
    return table(["method", "pull, %", "AP", "AP50", "AP75", *gains, *last], rows)


def difference_name(ours: str, theirs: str) -> str:
    """The name of a difference of two methods; a sum stands in brackets."""
    return " - ".join(f"({name})" if "+" in name else name for name in (ours, theirs))


def pairs_table(lines: Iterable[Line], pairs: Sequence[tuple[str, str]]) -> str:
    """One row a pair of methods: the first minus the second at each of `FIELDS`, with intervals.

    Args:
        lines: of one study; the sweep in it is passed over.

    Raises:
        InputError: a method has no run in the comparison.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    missing = [name for pair in pairs for name in pair if name not in methods_of(lines)]
    if missing:
        raise InputError(f"the comparison has no run of {missing[0]!r}; it has {methods_of(lines)}")
    rows = [
        [difference_name(*pair)]
        + [points(difference_on_images(lines, *pair, field)) for field in FIELDS]
        for pair in pairs
    ]
    return table(["difference", *FIELDS], rows)


def _row(lines: list[Line], name: str, p_value: float) -> Sequence[str]:
    alone = alone_of(lines)
    share = 0.0 if name in ("none", PSEUDO) else pull_share(lines, name)
    means = [f"{100 * _mean(lines, name, field):.1f}" for field in FIELDS]
    differences = [
        "-" if name == other else points(difference_on_images(lines, name, other, field))
        for other, field in ((alone, "AP"), (alone, "AP75"), ("BCKD", "AP"))
    ]
    pull = "-" if math.isnan(share) else f"{100 * share:.0f}"
    return [name, pull, *means, *differences, p_value_text(p_value)]


def _mean(lines: list[Line], method: str, field: str) -> float:
    return summarise(values(lines, method, field).values()).mean

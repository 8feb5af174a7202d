"""What methods gain by how long their start had learnt: late starts and early ones apart.

Half of the common starts are early, half late (`bckd.studies.common_starts`). They are strata of
the design, not chance: where methods differ more at early starts, the deviation of all pairs
together holds that difference, and the interval of a mean over both kinds is wider than its error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bckd.studies.common_starts import is_late
from bckd.studies.difference_text import mean_text, points
from bckd.studies.noise import image_error
from bckd.studies.ranking import alone_of
from bckd.studies.statistics import (
    Difference,
    Line,
    interval_of,
    methods_of,
    paired,
    runs_needed,
    values,
)
from bckd.studies.tables import table

POINT = 0.01  # AP


def stratified_difference(
    lines: Iterable[Line], method: str, reference: str, field: str = "AP"
) -> Difference:
    """AP of a method minus the reference's, as on other starts of both kinds and other images.

    The variance over pairs is that within late and within early starts, as parts of the whole
    (stratified sampling); Student's t has as many degrees of freedom as pairs beyond one a kind.

    Args:
        lines: runs that say their AP without each tenth of the images; two or more of each kind.
        field: "AP", "AP50" or "AP75".
    """
    lines = list(lines)
    kinds = [_pairs(lines, method, reference, late, field) for late in (True, False)]
    count = sum(kind.count for kind in kinds)
    mean = math.fsum(kind.count * kind.mean for kind in kinds) / count
    errors = [kind.count / count * kind.error for kind in kinds]
    error = math.hypot(*errors, image_error(lines, method, reference, field))
    return replace(interval_of(mean, error, count - 1), count=count)


def starts_table(lines: Iterable[Line]) -> str:
    """One row a method, best first at late starts: AP minus none's and BCKD's, late and early.

    Without labels pseudo-labels take the place of none. Then AP minus BCKD's over all pairs, within
    kinds (`stratified_difference`), the standard deviation of a pair, and how many pairs show a
    difference of a point with a power of 80 %.

    Args:
        lines: of one study from common starts; the sweep in it is passed over.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    alone = alone_of(lines)
    gains = {
        name: _pairs(lines, name, alone, True).mean for name in methods_of(lines) if name != alone
    }
    rows = [_row(lines, name) for name in sorted(gains, key=lambda name: -gains[name])]
    head = ["AP minus", f"{alone}, late", f"{alone}, early", "BCKD, late", "BCKD, early"]
    last = ["BCKD, within kinds", "s.d. of a pair", "pairs for a point"]
    return table([*head, *last], rows)


def _row(lines: list[Line], name: str) -> Sequence[str]:
    gains = [_pairs(lines, name, alone_of(lines), late).mean for late in (True, False)]
    cells = [name, *map(mean_text, gains)]
    if name == "BCKD":
        return [*cells, "-", "-", "-", "-", "-"]
    leads = [_pairs(lines, name, "BCKD", late).mean for late in (True, False)]
    whole = paired(values(lines, name), values(lines, "BCKD"))
    deviation = whole.error * math.sqrt(whole.count)
    needed = "-" if deviation == 0 else f"{runs_needed(POINT, deviation)}"
    within = points(stratified_difference(lines, name, "BCKD"))
    return [*cells, *map(mean_text, leads), within, f"{100 * deviation:.1f}", needed]


def _pairs(
    lines: list[Line], method: str, reference: str, late: bool, field: str = "AP"
) -> Difference:
    of_kind = [line for line in lines if is_late(line["seed"]) == late]
    return paired(values(of_kind, method, field), values(of_kind, reference, field))

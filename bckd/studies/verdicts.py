"""What the runs say of the hypotheses that were written down before them.

Holm's rule counts all of a family, also those whose runs are not there yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bckd.studies.difference_text import points
from bckd.studies.hypotheses import FAMILY, Hypothesis, Kind
from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import Difference, Line, holm, interval_of, methods_of

LEVEL = 0.05
MARGIN = 0.01  # AP; what "the same" and "not worse" leave room for


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a hypothesis.

    Attributes:
        differences: to each reference, as on other runs and other images; empty where no run is.
        p_value: the largest of them, two-sided; 1 without runs, and where a method that is to be
            above several is above one and below another.
        adjusted: the same by Holm's rule.
    """

    hypothesis: Hypothesis
    differences: tuple[Difference, ...]
    p_value: float
    adjusted: float

    @property
    def word(self) -> str:
        """Whether it holds at `LEVEL`, in a word."""
        if not self.differences:
            return "not run"
        if self.adjusted >= LEVEL:
            return "open"
        below = self.hypothesis.kind == "above" and any(x.mean < 0 for x in self.differences)
        return "the opposite" if below else "holds"


def verdicts(
    lines: Mapping[str, list[Line]], family: Mapping[str, Hypothesis] = FAMILY
) -> dict[str, Verdict]:
    """What the runs say of each hypothesis of a family.

    Args:
        lines: by study, those that it shares with others included; studies may be absent.

    Raises:
        InputError: runs do not say their AP without each tenth of the images.
    """
    differences = {
        name: _differences(lines.get(claim.study, []), claim) for name, claim in family.items()
    }
    p_values = [_largest_p(found, family[name].kind) for name, found in differences.items()]
    adjusted = holm(p_values)
    return {
        name: Verdict(claim, differences[name], p_values[n], adjusted[n])
        for n, (name, claim) in enumerate(family.items())
    }


def hypotheses_table(found: Mapping[str, Verdict]) -> str:
    """One row a hypothesis, as Markdown; differences in points."""
    rows = ["|  | hypothesis | difference [95%] | p | p, Holm | verdict |"]
    rows.append("| --- | --- | ---: | ---: | ---: | --- |")
    for name, verdict in found.items():
        cells = [name, verdict.hypothesis.text, *_numbers(verdict), verdict.word]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _differences(lines: list[Line], claim: Hypothesis) -> tuple[Difference, ...]:
    if not {claim.method, *claim.references} <= {*methods_of(lines)}:
        return ()
    return tuple(
        difference_on_images(lines, claim.method, reference, claim.field)
        for reference in claim.references
    )


def _largest_p(found: tuple[Difference, ...], kind: Kind) -> float:
    """Of a claim about all of these; 1 where none or where they lie on both sides."""
    if kind == "above" and len({x.mean > 0 for x in found}) > 1:
        return 1.0
    return max((_p_value(x, kind) for x in found), default=1.0)


def _p_value(found: Difference, kind: Kind) -> float:
    """Two-sided, that the difference is 0, or at the margin that it has to be inside of."""
    if math.isnan(found.p_value):  # a single pair tells nothing
        return 1.0
    if kind == "above":
        return found.p_value
    gaps = [found.mean + MARGIN] + ([MARGIN - found.mean] if kind == "same" else [])
    return max(
        interval_of(gap, found.error, found.count).p_value if gap > 0 else 1.0 for gap in gaps
    )


def _numbers(verdict: Verdict) -> list[str]:
    if not verdict.differences:
        return ["-", "-", "-"]
    told = "; ".join(points(x) for x in verdict.differences)
    return [told, f"{verdict.p_value:.2g}", f"{verdict.adjusted:.2g}"]

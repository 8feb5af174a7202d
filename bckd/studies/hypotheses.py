"""The hypotheses that were written down before the runs, and what these say of each.

Their text and reasons are in notebooks/hypotheses.md. They are three families of tests, of scenes
of six classes, of the other regimes, and of what these two left open: Holm's rule counts all of a
family, also those whose runs are not there yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bckd.studies.difference_text import points
from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import Difference, Line, holm, interval_of, methods_of

LEVEL = 0.05
MARGIN = 0.01  # AP; what "the same" and "not worse" leave room for
Kind = Literal["above", "same", "not worse"]


@dataclass(frozen=True)
class Hypothesis:
    """A claim about the difference of two methods.

    Attributes:
        text: the claim.
        kind: the method is above all references; or no further from each of them than `MARGIN`; or
            not below by that much.
        study: whose comparison tells.
        references: what it is compared with.
        field: "AP", "AP50" or "AP75".
    """

    text: str
    kind: Kind
    study: str
    method: str
    references: tuple[str, ...]
    field: str = "AP"


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


FAMILY = {
    "H1": Hypothesis("BCKD is above no distillation", "above", "fine", "BCKD", ("none",)),
    "H2": Hypothesis(
        "BCKD and softmax KD differ by less than a point", "same", "fine", "BCKD", ("softmax",)
    ),
    "H3": Hypothesis(
        "BCKD is above softmax KD at AP75", "above", "fine", "BCKD", ("softmax",), "AP75"
    ),
    "H4": Hypothesis(
        "without its weight (beta 0) BCKD is not worse",
        "not worse",
        "fine-shapes",
        "BCKD, beta 0",
        ("BCKD",),
    ),
    "H5": Hypothesis(
        "with the weight detached BCKD is the same to within a point",
        "same",
        "fine-shapes",
        "BCKD, weight detached",
        ("BCKD",),
    ),
    "H6": Hypothesis("CWD is above BCKD", "above", "fine", "CWD", ("BCKD",)),
    "H7": Hypothesis(
        "the best combination is above both BCKD and softmax KD + L_loc",
        "above",
        "fine-confirm",
        "MGD + BCKD",  # chosen by the sweep of "fine-search"
        ("BCKD", "softmax + L_loc"),
    ),
    "H8": Hypothesis(
        "YOLOv6's softmax over sigmoid scores is above BCKD", "above", "fine", "YOLOv6", ("BCKD",)
    ),
    "H9": Hypothesis("MGD is above BCKD", "above", "fine-confirm", "MGD", ("BCKD",)),
    "H10": Hypothesis(
        "softmax KD, then BCKD is above both BCKD and softmax KD + L_loc",
        "above",
        "fine-confirm",
        "softmax, then BCKD",
        ("BCKD", "softmax + L_loc"),
    ),
}

_THEN, _BOTH = "softmax, then BCKD", ("BCKD", "softmax + L_loc")


def _regime(name: str, study: str) -> tuple[Hypothesis, Hypothesis]:
    """What is asked of every regime that softmax distillation has something to say in."""
    above = f"{name}: softmax KD, then BCKD is above both BCKD and softmax KD + L_loc"
    return (
        Hypothesis(above, "above", study, _THEN, _BOTH),
        Hypothesis(f"{name}: BCKD is above softmax KD", "above", study, "BCKD", ("softmax",)),
    )


_OF_REGIMES = (
    Hypothesis("one class: L_cls is above none", "above", "fine-one", "L_cls", ("none",)),
    Hypothesis("one class: BCKD is above L_cls", "above", "fine-one", "BCKD", ("L_cls",)),
    Hypothesis(
        "one class: L_cls from half of the run on, with L_loc, is above BCKD",
        "above",
        "fine-one",
        _THEN,
        ("BCKD",),
    ),
    *_regime("twelve classes", "fine-twelve"),
    *_regime("steel", "fine-neu"),
    *_regime("photographs", "photographs"),
)
REGIMES = {f"R{n}": claim for n, claim in enumerate(_OF_REGIMES, start=1)}

_OWN, _SHARED = "softmax, then BCKD, own factors", "photographs-shared"
_LEFT_OPEN = (
    Hypothesis(
        "softmax KD, then BCKD, each at its own factor, is above both BCKD and softmax KD + L_loc",
        "above",
        "fine-own-factors",
        _OWN,
        _BOTH,
    ),
    Hypothesis("steel: the same", "above", "fine-neu-parts", _OWN, _BOTH),
    Hypothesis(
        "steel: BCKD is above BCKD without L_loc",
        "above",
        "fine-neu-parts",
        "BCKD",
        ("BCKD without L_loc",),
    ),
    Hypothesis(
        "steel: BCKD is above BCKD without L_cls",
        "above",
        "fine-neu-parts",
        "BCKD",
        ("BCKD without L_cls",),
    ),
    Hypothesis(
        "photographs, shared backbone: BCKD is above none", "above", _SHARED, "BCKD", ("none",)
    ),
    Hypothesis(
        "photographs, shared backbone: BCKD is above softmax KD",
        "above",
        _SHARED,
        "BCKD",
        ("softmax",),
    ),
    Hypothesis(
        "photographs, shared backbone: softmax KD, then BCKD is above both BCKD and softmax KD + "
        "L_loc",
        "above",
        _SHARED,
        _THEN,
        _BOTH,
    ),
    Hypothesis(
        "the same, narrow students: BCKD is above softmax KD",
        "above",
        f"{_SHARED}-narrow",
        "BCKD",
        ("softmax",),
    ),
    Hypothesis(
        "the same, a tenth of the labels: BCKD is above pseudo-labels",
        "above",
        f"{_SHARED}-tenth",
        "BCKD",
        ("pseudo-labels",),
    ),
    Hypothesis(
        "the same, no labels: BCKD is above pseudo-labels",
        "above",
        f"{_SHARED}-none",
        "BCKD",
        ("pseudo-labels",),
    ),
)
LEFT_OPEN = {f"S{n}": claim for n, claim in enumerate(_LEFT_OPEN, start=1)}
FAMILIES = (FAMILY, REGIMES, LEFT_OPEN)


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

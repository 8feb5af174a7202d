"""The hypotheses that were written down before the runs.

Their text and reasons are in notebooks/hypotheses.md. They are four families of tests: of scenes of
six classes, of the other regimes, of what these two left open, and of what the photographs did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["above", "same", "not worse"]


@dataclass(frozen=True)
class Hypothesis:
    """A claim about the difference of two methods.

    Attributes:
        text: the claim.
        kind: the method is above all references; or no further from each of them than a margin
            (`bckd.studies.verdicts.MARGIN`); or not below by that much.
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


def _photographs(name: str, claim: str, reference: str) -> Hypothesis:
    """BCKD above another method, on photographs and a shared backbone."""
    return Hypothesis(claim, "above", f"{_SHARED}-{name}", "BCKD", (reference,))


_OF_PHOTOGRAPHS = (
    _photographs("tenth-swept", "a tenth of the labels, swept: BCKD is above none", "none"),
    _photographs("tenth-swept", "the same: BCKD is above pseudo-labels", "pseudo-labels"),
    _photographs("tenth-swept", "the same: BCKD is above softmax KD", "softmax"),
    _photographs("none-apart", "no labels: BCKD is above softmax KD + L_loc", "softmax + L_loc"),
    _photographs("none-apart", "no labels: BCKD is above BCKD without L_loc", "BCKD without L_loc"),
    _photographs("confirm", "all labels, fresh students: BCKD is above none", "none"),
    _photographs("confirm", "the same: BCKD is above softmax KD", "softmax"),
)
OF_PHOTOGRAPHS = {f"T{n}": claim for n, claim in enumerate(_OF_PHOTOGRAPHS, start=1)}
FAMILIES = (FAMILY, REGIMES, LEFT_OPEN, OF_PHOTOGRAPHS)

"""The distillation terms: a line of `TERMS` names one, says its weight and what it needs.

The configuration (`--weights.NAME`), the objective, the checks of the teacher, the log and the
titles of curves follow from that line. A term of one's own, outside this package, is named by
`Recipe.terms`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from torch import Tensor

from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.losses.options import LossOptions
from bckd.structures import Assignment, Batch, DenseOutput

# What a term may need beside logits, boxes, assignment and batch, which are always there: the
# pyramids' maps of both detectors, box distributions of both, the valuable localisation region, the
# heads of both (see `bckd.teachers.heads`), which a module's `__init__` takes as a third argument.
Need = Literal["features", "distributions", "region", "head"]
NEEDS: tuple[Need, ...] = ("features", "distributions", "region", "head")

# A student's and its teacher's output, made comparable (see `bckd.correspondence.compared`), the
# student's assignment and the batch (None in a loop of one's own) become one unweighted scalar.
TermFunction = Callable[[DenseOutput, DenseOutput, Assignment, Batch | None], Tensor]
Own = TypeVar("Own", bound=Callable[..., Any])


@dataclass(frozen=True)
class Term:
    """One distillation term.

    Attributes:
        title: what it is, in few words, as above a curve.
        text: what it is, as in the help of an option.
        make: the function, from the options that a recipe has.
        weight: its default; 0: it is not computed unless asked for.
        needs: see `Need`.
    """

    title: str
    text: str
    make: Callable[[LossOptions], TermFunction]
    weight: float = 0.0
    needs: tuple[Need, ...] = ()


def needs(*what: Need) -> Callable[[Own], Own]:
    """Say of a function, or of a module's class, what it needs as a term.

    @needs("features")
    def squared_gap(student, teacher, assignment, batch): ...
    """

    def mark(term: Own) -> Own:
        term.needs = what  # type: ignore[attr-defined]
        return term

    return mark


def _of_pair(function: Callable[..., Tensor], **options: str) -> Callable[[LossOptions], Any]:
    """Makes a term of a function of student, teacher and assignment.

    Args:
        options: the field of `LossOptions` by the keyword that it becomes.
    """

    def make(given: LossOptions) -> TermFunction:
        chosen = {keyword: getattr(given, field) for keyword, field in options.items()}

        def term(
            student: DenseOutput,
            teacher: DenseOutput,
            assignment: Assignment,
            batch: Batch | None,
        ) -> Tensor:
            return function(student, teacher, assignment, **chosen)

        return term

    return make


TERMS: dict[str, Term] = {
    "binary": Term(
        "L_cls (binary)",
        "L_cls of BCKD: binary classification distillation",
        _of_pair(
            binary_classification,
            beta="binary_beta",
            detach_weight="binary_detach",
            gate_levels="gate_levels",
        ),
        weight=1.0,
    ),
    "iou": Term(
        "L_loc (IoU)",
        "L_loc of BCKD: IoU-based localisation distillation",
        _of_pair(
            iou_localisation,
            kind="iou_kind",
            weighting="iou_weighting",
            gate_levels="gate_levels",
        ),
        weight=4.0,
    ),
    "softmax": Term(
        "softmax KD",
        "softmax distillation of the class logits (mean over classes)",
        _of_pair(
            softmax_classification,
            temperature="softmax_temperature",
            places="softmax_places",
            gate_levels="gate_levels",
        ),
    ),
    "ld": Term(
        "LD on positives",
        "localisation distillation (LD) on positives",
        _of_pair(localisation_distribution, temperature="ld_temperature"),
        needs=("distributions",),
    ),
    "ld_region": Term(
        "LD on the valuable region",
        "LD on the valuable localisation region",
        _of_pair(partial(localisation_distribution, places="region"), temperature="ld_temperature"),
        needs=("distributions", "region"),
    ),
}

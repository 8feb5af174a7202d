"""What a distillation term is, and how it says what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from torch import Tensor

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


def needs(*what: Need) -> Callable[[Own], Own]:
    """Say of a function, or of a module's class, what it needs as a term.

    @needs("features")
    def squared_gap(student, teacher, assignment, batch): ...
    """

    def mark(term: Own) -> Own:
        term.needs = what  # type: ignore[attr-defined]
        return term

    return mark

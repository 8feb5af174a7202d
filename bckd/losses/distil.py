"""Distillation in a training loop of one's own: one call, with outputs of any two detectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bckd.correspondence import choose_levels, compared
from bckd.losses.options import LossOptions
from bckd.losses.terms import TERMS
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError
from bckd.system.nearest import expected


def distil(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    weights: Mapping[str, float] | None = None,
    options: LossOptions | None = None,
) -> Tensor:
    """BCKD's loss, or other terms of `TERMS`, to be added to what is learnt from labels.

    The pair is made comparable first: levels that the student has not are left out of the
    teacher's output, and a cell with several anchors speaks with its best one (see
    `bckd.correspondence.compared`).

    Args:
        student: of a batch, with a gradient.
        teacher: of the same images, of the same classes in the same order.
        assignment: the student's; `Assignment.for_distillation` makes one of positives alone.
        weights: by the name of the term; by default those of BCKD, `{"binary": 1, "iou": 4}`.
        options: how terms are computed; by default as in the official COCO recipe.

    Returns:
        Scalar: the weighted sum of the terms.

    Raises:
        InputError: a term is unknown, or has parameters that learn; or the two outputs are of
            other levels, sizes or classes, naming these; or the assignment is of another output.
    """
    defaults = {name: term.weight for name, term in TERMS.items() if term.weight}
    weights = defaults if weights is None else weights
    unknown = [name for name in weights if name not in TERMS]
    if unknown:
        raise InputError(f"term {unknown[0]!r} is unknown; {expected(unknown[0], TERMS)}")
    functions = {name: term.make for name, term in TERMS.items() if term.make is not None}
    learning = [name for name, weight in weights.items() if weight and name not in functions]
    if learning:
        raise InputError(
            f"term {learning[0]} has parameters that learn; expected a term that is a function, or "
            f"TERMS[{learning[0]!r}].module(student, teacher), made once and called in the loop"
        )
    strides = [level.stride for level in student.locations.levels]
    theirs = [level.stride for level in teacher.locations.levels]
    if strides != theirs:
        absent = [stride for stride in strides if stride not in theirs]
        if absent:
            raise InputError(
                f"the student has a level of stride {absent[0]} and the teacher none; the "
                f"teacher's strides are {', '.join(map(str, theirs))} (`choose_levels` leaves "
                f"levels out)"
            )
        teacher = choose_levels(teacher, tuple(strides))
    said, assigned = (tuple(x.shape[:2]) for x in (student.cls_logits, assignment.positive))
    if said != assigned:
        raise InputError(
            f"the assignment is of {assigned[0]} images and {assigned[1]} locations; expected the "
            f"student's {said[0]} and {said[1]}"
        )
    pair = compared(student, teacher, assignment)
    options = LossOptions() if options is None else options
    terms = [
        weight * functions[name](options)(*pair, None) for name, weight in weights.items() if weight
    ]
    return torch.stack(terms).sum() if terms else student.cls_logits.sum() * 0

"""Whether student and teacher have what the distillation terms of a recipe need."""

from __future__ import annotations

from collections.abc import Iterable

from bckd.losses.terms import Need
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError


def check_needs(
    terms: Iterable[tuple[str, tuple[Need, ...]]],
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
) -> None:
    """Refuse a pair that a term can't be computed of.

    Args:
        terms: what each needs, by its name.
        student, teacher: what both say of some images.
        assignment: the student's, of these.

    Raises:
        InputError: naming the term, what it needs and who lacks it.
    """
    pair = {"student": student, "teacher": teacher}
    for name, needs in terms:
        for who, output in pair.items():
            if "features" in needs and not output.features:
                raise InputError(f"term {name} needs the maps of both pyramids; the {who} has none")
            if "distributions" in needs and output.box_logits is None:
                raise InputError(
                    f"term {name} needs the box distributions of both detectors; the {who} has "
                    f"none (GFL has them; the weight iou needs none)"
                )
        if "distributions" in needs:
            _check_bins(name, student, teacher)
        if "region" in needs and assignment.localisation_region is None:
            raise InputError(
                f"term {name} needs the valuable localisation region, which the student's "
                f"assignment does not have (GFL and ATSS have it)"
            )


def _check_bins(name: str, student: DenseOutput, teacher: DenseOutput) -> None:
    assert student.box_logits is not None and teacher.box_logits is not None  # as checked before
    ours, theirs = (logits.shape[-1] - 1 for logits in (student.box_logits, teacher.box_logits))
    if ours != theirs:
        raise InputError(
            f"term {name} needs the same reg_max of both detectors; the student has {ours}, "
            f"the teacher {theirs}"
        )

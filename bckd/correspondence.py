"""What a teacher says, read by a student of another family, other levels or other classes.

Levels correspond by stride and classes by name. A teacher may have more of both than its
student, and may want its images normalised in another way (`matched`). A cell of the
grid corresponds to the cell of the same row and column, wherever in it a head puts its
point: detectors that predict at a cell's corner (GFL, ATSS, RetinaNet) and at its middle
(FCOS, NanoDet) are half a stride apart, and compare decoded boxes in pixels.

Where one of a pair has several anchors a cell and the other has not, each cell of the former
speaks with its best anchor (`compared`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bckd.errors import InputError
from bckd.models.dense import DenseDetector
from bckd.models.grouped import NO_SCORE
from bckd.normalisation import Normalisation, renormalise
from bckd.structures import Assignment, DenseOutput, Locations
from bckd.telling import first_of, tell_some


class Matched(DenseDetector):
    """A teacher that takes its student's images and speaks of its levels and classes.

    Args:
        teacher: the detector.
        class_names: the student's; `columns` are theirs among the teacher's classes. A class that
            the teacher lacks (None) is nowhere, by what it says.
        strides: the student's, all of which the teacher has.
        normalisation: of the student's images.
    """

    def __init__(
        self,
        teacher: DenseDetector,
        class_names: tuple[str, ...],
        columns: Sequence[int | None],
        strides: tuple[int, ...],
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.teacher, self.columns = teacher, list(columns)
        self.class_names, self.strides, self.normalisation = class_names, strides, normalisation
        self.settings = teacher.settings

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of the student's images (N, 3, H, W), padding 0."""
        output = self.teacher(renormalise(images, self.normalisation, self.teacher.normalisation))
        output = replace(output, cls_logits=self._chosen(output.cls_logits))
        return output if self.strides == self.teacher.strides else _levels(output, self.strides)

    def _chosen(self, logits: Tensor) -> Tensor:
        lacking = [n for n, column in enumerate(self.columns) if column is None]
        logits = logits[..., [0 if column is None else column for column in self.columns]]
        if lacking:
            logits[..., lacking] = NO_SCORE  # the indexing above has made a copy
        return logits


def matched(
    teacher: DenseDetector,
    who: str,
    class_names: tuple[str, ...],
    strides: tuple[int, ...],
    normalisation: Normalisation,
    renamed: dict[str, str] | None = None,
    dispensable: frozenset[str] = frozenset(),
) -> DenseDetector:
    """The teacher as a student of these classes, strides and images takes it.

    The teacher itself, where nothing differs.

    Args:
        who: the teacher's name, for messages.
        renamed: the teacher's name of a class, by the student's, where these differ.
        dispensable: classes that the teacher may lack, as nothing is to be learnt of them.

    Raises:
        InputError: a class or a stride of the student has no counterpart.
    """
    columns = _columns(teacher, who, class_names, renamed or {}, dispensable)
    absent = [stride for stride in strides if stride not in teacher.strides]
    if absent:
        raise InputError(
            f"teacher {who} has strides {_listed(teacher.strides)} and the student "
            f"{_listed(strides)}: the student's {_listed(absent)} would learn nothing; give the "
            f"student strides of the teacher (--model.strides {_listed(teacher.strides, ' ')})"
        )
    same_classes = columns == list(range(len(teacher.class_names)))
    if same_classes and (strides, normalisation) == (teacher.strides, teacher.normalisation):
        return teacher
    return Matched(teacher, class_names, columns, strides, normalisation).train(teacher.training)


def _columns(
    teacher: DenseDetector,
    who: str,
    class_names: tuple[str, ...],
    renamed: dict[str, str],
    dispensable: frozenset[str],
) -> list[int | None]:
    stray = [name for name in renamed if name not in class_names]
    if stray:
        raise InputError(
            f"teacher_classes renames {stray[0]!r}, which is no class of the data set; these "
            f"are {first_of([*class_names])}"
        )
    wanted = [renamed.get(name, name) for name in class_names]
    absent = [
        pair for pair in zip(class_names, wanted, strict=True) if pair[1] not in teacher.class_names
    ]
    missing = [theirs for ours, theirs in absent if ours not in dispensable]
    if missing:
        raise InputError(
            f"teacher {who} has no class {first_of(missing)}; it has "
            f"{_listed(teacher.class_names)}: say which of these each class is "
            f"(--teacher-classes '{missing[0]}=NAME')"
        )
    tell_lacking(f"teacher {who}", [ours for ours, _ in absent])
    places = {name: place for place, name in enumerate(teacher.class_names)}
    return [places.get(name) for name in wanted]


def tell_lacking(who: str, names: Sequence[str]) -> None:
    """Tell which classes of the data a detector does not know, and need not."""
    tell_some(f"{who} lacks {{}} of the classes, of which there is no box to learn from", names)


def _listed(values: Sequence[object], separator: str = ", ") -> str:
    return separator.join(str(value) for value in values)


def _levels(output: DenseOutput, strides: tuple[int, ...]) -> DenseOutput:
    """The locations of the levels of these strides."""
    kept = [level.stride in strides for level in output.locations.levels]
    counts = torch.tensor(output.locations.counts)
    rows = torch.tensor(kept).repeat_interleave(counts).nonzero().flatten()
    levels = tuple(x for x, keep in zip(output.locations.levels, kept, strict=True) if keep)
    features = output.features
    if len(features) == len(kept):
        features = tuple(x for x, keep in zip(features, kept, strict=True) if keep)
    locations = _rows_of(output.locations, rows.to(output.boxes.device))
    chosen = _fields(output, lambda x: x[:, rows.to(x.device)])
    return replace(output, locations=replace(locations, levels=levels), features=features, **chosen)


def compared(
    student: DenseOutput, teacher: DenseOutput, assignment: Assignment
) -> tuple[DenseOutput, DenseOutput, Assignment]:
    """The pair and the student's assignment with as many locations a cell on both sides.

    Where these differ, a cell's logit of a class is the highest of its anchors', its box that
    of the anchor with the highest logit of all, and it is positive if one of them is. The
    student's gradient goes to those anchors alone.
    """
    ours, theirs = (x.locations.levels[0].per_cell for x in (student, teacher))
    if ours == theirs:
        return student, teacher, assignment
    if ours > 1:
        student, assignment = per_cell(student), _assignment_per_cell(assignment, ours)
    return student, per_cell(teacher) if theirs > 1 else teacher, assignment


def per_cell(output: DenseOutput) -> DenseOutput:
    """One location a cell, which speaks with the best of its anchors.

    Args:
        output: B anchors a cell on every level.

    Returns:
        `cls_logits` (N, A / B, K): the highest of the cell's, class by class; `boxes` and
        `quality` of the anchor with the highest logit of all. Deltas and anchors, which
        belong to one anchor, are left out.
    """
    count = output.locations.levels[0].per_cell
    logits = output.cls_logits.unflatten(1, (-1, count))  # (N, cells, B, K)
    best = logits.amax(dim=-1).argmax(dim=-1)  # (N, cells)
    chosen = best + count * torch.arange(best.shape[1], device=best.device)
    every = torch.arange(0, logits.shape[1] * count, count, device=best.device)
    levels = tuple(replace(level, per_cell=1) for level in output.locations.levels)
    locations = replace(_rows_of(output.locations, every), levels=levels, anchors=None)
    fields = _fields(output, lambda x: _gather(x, chosen))
    fields["cls_logits"] = logits.max(dim=2).values
    return replace(output, locations=locations, **{**fields, "deltas": None})


def _assignment_per_cell(assignment: Assignment, count: int) -> Assignment:
    """A cell takes the part of its first positive anchor, or of its first one."""
    positive = assignment.positive.unflatten(1, (-1, count))  # (N, cells, B)
    first = positive.int().argmax(dim=-1)
    chosen = first + count * torch.arange(first.shape[1], device=first.device)
    return replace(
        assignment,
        labels=_gather(assignment.labels, chosen),
        boxes=_gather(assignment.boxes, chosen),
        valid=assignment.valid.unflatten(1, (-1, count)).any(dim=-1),
        counted=assignment.counted.unflatten(1, (-1, count)).any(dim=-1),
        positive=positive.any(dim=-1),
        localisation_region=None,
    )


def _rows_of(locations: Locations, rows: Tensor) -> Locations:
    anchors = None if locations.anchors is None else locations.anchors[rows]
    centres, strides = locations.centres[rows], locations.strides[rows]
    return replace(locations, centres=centres, strides=strides, anchors=anchors)


def _fields(output: DenseOutput, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: change(x) for name, x in output.per_location().items()}


def _gather(values: Tensor, rows: Tensor) -> Tensor:
    """(N, C, ...) from (N, A, ...) and rows (N, C)."""
    index = rows.reshape(*rows.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(*rows.shape, *values.shape[2:]))

"""A teacher of another family, with other levels or other classes, as its student takes it.

Levels correspond by stride and classes by name, in any usual spelling. A teacher may have more of
both than its student, and may want its images normalised in another way (`matched`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bckd.correspondence import choose_levels
from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.models.grouped import NO_SCORE
from bckd.normalisation import Normalisation, renormalise
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.system.telling import first_of, tell_some
from bckd.teachers.class_names import counterparts, tell_counterparts


class Matched(DenseDetector):
    """A teacher that takes its student's images and speaks of its levels and classes.

    Args:
        teacher: the detector.
        class_names: the student's; `columns` are theirs among the teacher's classes. A class that
            the teacher lacks (None) is nowhere, by what it says.
        strides: the student's, all of which the teacher has.
        normalisation: of the student's images.
    """

    columns: Tensor
    lacking: Tensor

    def __init__(
        self,
        teacher: DenseDetector,
        class_names: tuple[str, ...],
        columns: Sequence[int | None],
        strides: tuple[int, ...],
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        lacking = [column is None for column in columns]
        self.lacks_any = any(lacking)
        # Buffers, since the host would wait for a copy of these in every step.
        places = [0 if column is None else column for column in columns]
        device = next(teacher.parameters()).device
        self.register_buffer("columns", torch.tensor(places, device=device), persistent=False)
        self.register_buffer("lacking", torch.tensor(lacking, device=device), persistent=False)
        self.class_names, self.strides, self.normalisation = class_names, strides, normalisation
        self.settings = teacher.settings

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of the student's images (N, 3, H, W), padding 0."""
        output = self.teacher(renormalise(images, self.normalisation, self.teacher.normalisation))
        output = replace(output, cls_logits=self.chosen(output.cls_logits))
        return (
            output if self.strides == self.teacher.strides else choose_levels(output, self.strides)
        )

    def chosen(self, logits: Tensor) -> Tensor:
        """(N, A, K) of its student's classes, from the teacher's own logits."""
        logits = logits.index_select(-1, self.columns)
        return logits.masked_fill(self.lacking, NO_SCORE) if self.lacks_any else logits


def own_names(detector: DenseDetector) -> tuple[str, ...]:
    """What a teacher itself calls each of its student's classes."""
    if not isinstance(detector, Matched):
        return detector.class_names
    return tuple(detector.teacher.class_names[k] for k in detector.columns.tolist())


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
        who: "teacher" and its name, for messages.
        renamed: the teacher's name of a class, by the student's, where these differ.
        dispensable: classes that the teacher may lack, as nothing is to be learnt of them.

    Raises:
        InputError: a class or a stride of the student has no counterpart.
    """
    names, renamed = teacher.class_names, renamed or {}
    stray = [name for name in renamed if name not in class_names]
    if stray:
        raise InputError(
            f"teacher_classes renames {stray[0]!r}, which is no class of the data set; these "
            f"are {first_of([*class_names])}"
        )
    advice = ": say which of these each class is (--teacher-classes '{}=NAME')"
    columns = columns_by_name(names, class_names, who, dispensable, renamed, advice)
    absent = [stride for stride in strides if stride not in teacher.strides]
    if absent:
        raise InputError(
            f"{who} has strides {_listed(teacher.strides)} and the student "
            f"{_listed(strides)}: the student's {_listed(absent)} would learn nothing; expected a "
            f"teacher with these levels, or a student without (--model.strides "
            f"{_listed(teacher.strides, ' ')}, but for torchvision's, which have theirs)"
        )
    same_classes = columns == list(range(len(names)))
    if same_classes and (strides, normalisation) == (teacher.strides, teacher.normalisation):
        return teacher
    return Matched(teacher, class_names, columns, strides, normalisation).train(teacher.training)


def with_classes_of(
    detector: DenseDetector, path: Path, dataset: CocoDataset
) -> tuple[DenseDetector, CocoDataset]:
    """Detector and data set with the classes that both know, matched by name.

    A name that the detector spells otherwise is told. Classes that it has beyond these are left
    out, and told; those that it lacks must have no box in the data.

    Raises:
        InputError: naming the classes of the data set that have boxes and that it lacks.
    """
    names = dataset.annotations.class_names
    if detector.class_names == names:
        return detector, dataset
    found = counterparts(detector.class_names, names)
    dataset.annotations.check_known((*detector.class_names, *found), str(path))
    known = tuple(name for name in names if name in found)
    dataset = dataset.with_annotations(dataset.annotations.with_classes(known, str(path)))
    columns = columns_by_name(detector.class_names, known, str(path))
    tell_extra(detector.class_names, tuple(found.values()), str(path))
    chosen = (known, columns, detector.strides, detector.normalisation)
    return Matched(detector, *chosen).train(detector.training), dataset


def columns_by_name(
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    who: str,
    dispensable: frozenset[str] = frozenset(),
    renamed: Mapping[str, str] | None = None,
    advice: str = "",
) -> list[int | None]:
    """Where each of our classes is among theirs, by name; None of one that is lacking, and told.

    A name that they spell otherwise is found too, and told (see `bckd.teachers.class_names`).

    Args:
        who: has their classes, for messages.
        dispensable: classes of ours that they may lack, as nothing is to be learnt of them.
        renamed: their name of a class, by ours, where these differ.
        advice: the end of the sentence that refuses, with `{}` for a class that is lacking.

    Raises:
        InputError: they lack a class that is not dispensable.
    """
    sought = {name: (renamed or {}).get(name, name) for name in ours}
    found = counterparts(theirs, [*sought.values()])
    absent = [name for name in ours if sought[name] not in found]
    missing = [sought[name] for name in absent if name not in dispensable]
    if missing:
        raise InputError(
            f"{who} has no class {first_of(missing)}; it has {_listed(theirs)}"
            f"{advice.replace('{}', missing[0])}"
        )
    tell_counterparts(found, who)
    tell_some(f"{who} lacks {{}} of the classes, of which there is no box to learn from", absent)
    return [theirs.index(found[x]) if x in found else None for x in sought.values()]


def tell_extra(theirs: tuple[str, ...], ours: tuple[str, ...], who: str) -> None:
    """Tell which of their classes nobody asks them for."""
    extra = [name for name in theirs if name not in ours]
    tell_some(f"{who}: {{}} of its classes are not in the data set and left out", extra)


def _listed(values: Sequence[object], separator: str = ", ") -> str:
    return separator.join(str(value) for value in values)

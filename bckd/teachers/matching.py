"""A teacher of another family, with other levels or other classes, as its student takes it.

Levels correspond by stride and classes by name. A teacher may have more of both than its
student, and may want its images normalised in another way (`matched`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from bckd.correspondence import choose_levels
from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.models.grouped import NO_SCORE
from bckd.normalisation import Normalisation, renormalise
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.system.telling import first_of, tell_some


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
        return (
            output if self.strides == self.teacher.strides else choose_levels(output, self.strides)
        )

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
        who: "teacher" and its name, for messages.
        renamed: the teacher's name of a class, by the student's, where these differ.
        dispensable: classes that the teacher may lack, as nothing is to be learnt of them.

    Raises:
        InputError: a class or a stride of the student has no counterpart.
    """
    columns = _columns(teacher, who, class_names, renamed or {}, dispensable)
    absent = [stride for stride in strides if stride not in teacher.strides]
    if absent:
        raise InputError(
            f"{who} has strides {_listed(teacher.strides)} and the student "
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
            f"{who} has no class {first_of(missing)}; it has "
            f"{_listed(teacher.class_names)}: say which of these each class is "
            f"(--teacher-classes '{missing[0]}=NAME')"
        )
    tell_lacking(who, [ours for ours, _ in absent])
    places = {name: place for place, name in enumerate(teacher.class_names)}
    return [places.get(name) for name in wanted]


def tell_lacking(who: str, names: Sequence[str]) -> None:
    """Tell which classes of the data a detector does not know, and need not."""
    tell_some(f"{who} lacks {{}} of the classes, of which there is no box to learn from", names)


def _listed(values: Sequence[object], separator: str = ", ") -> str:
    return separator.join(str(value) for value in values)


def with_classes_of(
    detector: DenseDetector, path: Path, dataset: CocoDataset
) -> tuple[DenseDetector, CocoDataset]:
    """Detector and data set with the classes that both know, matched by name.

    Classes that the detector has beyond these are left out, and told; those that it lacks must
    have no box in the data.

    Raises:
        InputError: naming the classes of the data set that have boxes and that it lacks.
    """
    names = dataset.annotations.class_names
    if detector.class_names == names:
        return detector, dataset
    dataset.annotations.check_known(detector.class_names, str(path))
    known = tuple(name for name in names if name in detector.class_names)
    dataset = dataset.with_annotations(dataset.annotations.with_classes(known, str(path)))
    columns = columns_by_name(detector.class_names, known, str(path))
    chosen = (known, columns, detector.strides, detector.normalisation)
    return Matched(detector, *chosen).train(detector.training), dataset


def columns_by_name(
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    who: str,
    dispensable: frozenset[str] = frozenset(),
) -> list[int | None]:
    """Where each of our classes is among theirs, by name; what is left out or lacks is told."""
    absent = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    missing = [name for name in absent if name not in dispensable]
    if missing:
        alone = f" and it alone has {first_of(extra)}" if extra else ""
        raise InputError(
            f"{who} has other classes than the data set: it lacks {first_of(missing)}{alone}"
        )
    tell_some(f"{who}: {{}} of its classes are not in the data set and left out", extra)
    tell_lacking(who, absent)
    return [theirs.index(name) if name in theirs else None for name in ours]

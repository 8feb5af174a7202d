"""What is told of a data set before it is used: what was made of its files, what is left out."""

from __future__ import annotations

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.findings import Findings
from bckd.inspection.notes import (
    note_files,
    note_judged,
    note_judges,
    note_shared,
    note_training,
    note_validation,
)


def tell_annotations(annotations: Annotations) -> None:
    """Tell what was odd in an annotation file."""
    annotations.findings.tell()


def tell_training(dataset: CocoDataset) -> None:
    """Tell what of a data set is not learnt from, and what is there twice."""
    findings = Findings(dataset.annotations.path)
    note_training(dataset.annotations, findings)
    note_files(dataset.files, findings)
    findings.tell()


def tell_validation(dataset: CocoDataset, max_detections: int) -> None:
    """Tell what AP can say on a data set, and what is there twice.

    Raises:
        InputError: it can't be judged by.
    """
    findings = Findings(dataset.annotations.path)
    note_judges(dataset.annotations, findings)
    findings.check()
    note_validation(dataset.annotations, max_detections, findings)
    note_files(dataset.files, findings)
    findings.tell()


def tell_shared(training: CocoDataset, validation: CocoDataset) -> None:
    """Tell which images of the validation are trained on."""
    findings = Findings(validation.annotations.path)
    note_shared(training.files, validation.files, findings)
    findings.tell()


def tell_judged(training: Annotations, validation: Annotations, listed: frozenset[str]) -> None:
    """Tell which classes have a box to learn from and none to judge by, or the reverse.

    Args:
        validation: with the classes of the training's.
        listed: those that the validation's file lists.
    """
    findings = Findings(validation.path)
    note_judged(training, validation, listed, findings)
    findings.tell()

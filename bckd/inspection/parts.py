"""A part of a data set: where it lies, and all that is found in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bckd.datasets.annotations import Annotations, gather_annotations
from bckd.datasets.findings import Fault, Findings, Oddity
from bckd.datasets.image_files import ImageFile, gather_files
from bckd.datasets.instances_file import InstanceLists, is_marked, lists_of, read_lists
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.inspection.notes import note_files, note_judges, note_training, note_validation
from bckd.system.errors import InputError
from bckd.system.files import read_json

MOSTLY_CROWD = Oddity(
    "more than half of the boxes are crowd regions (iscrowd 1), which nothing is learnt from and "
    "no detection is missed in: are they single objects?"
)
NOTHING = Fault("no image has a box to learn from", "expected boxes of at least a pixel, no crowd")
_MOST_CROWD = 0.5  # share of the boxes


@dataclass(frozen=True)
class Part:
    """Where a part of a data set lies.

    Attributes:
        name: train, val, test; or "data", which stands for each of them.
        annotations: the COCO instances file.
        images: the folder that its file names are relative to.
    """

    name: str
    annotations: Path
    images: Path

    @property
    def learnt(self) -> bool:
        """Whether it is to learn from."""
        return self.name in ("train", "data")


@dataclass(frozen=True)
class Inspected:
    """What was found in a part.

    Attributes:
        annotations: what is in order in its file; None: nothing could be read.
        content: its file as Python's reader has it, where that was asked for.
        files: of its images, those that can be used.
        findings: of both, and of what that makes of training and evaluation.
    """

    part: Part
    findings: Findings
    annotations: Annotations | None = None
    content: Any = None
    files: list[ImageFile] = field(default_factory=list)


def inspect(part: Part, whole: bool = False) -> Inspected:
    """Read a part's file and decode all its images.

    Args:
        whole: keep the content of the file too.

    Returns:
        All faults among its findings, also that a file is absent or no JSON.
    """
    content = None
    try:
        lists, content = _lists(part.annotations, whole)
        annotations = gather_annotations(lists, part.annotations, part.images)
    except InputError as error:
        findings = Findings(part.annotations)
        findings.add(Fault(str(error), "mend this first: nothing else is known of this part"))
        return Inspected(part, findings)
    findings = annotations.findings
    try:
        files = gather_files(part.images, annotations.images, findings, decode=True)
    except InputError as error:
        findings.add(Fault(str(error), "name the folder that file_name is relative to"))
        files = []
    _note(part, annotations, findings)
    note_files(files, findings)
    return Inspected(part, findings, annotations, content, files)


def _lists(path: Path, whole: bool) -> tuple[InstanceLists, Any]:
    if not whole:
        return read_lists(path), None
    if not path.exists():
        raise InputError(f"annotation file {path} does not exist")
    content = read_json(path)
    return lists_of(content, path, is_marked(path)), content


def _note(part: Part, annotations: Annotations, findings: Findings) -> None:
    """Note what follows from the boxes; where none can be read for their faults, nothing does."""
    boxes = annotations.truth.boxes
    if not len(boxes.numbers) and findings.faults:
        return
    if len(boxes.crowd) and boxes.crowd.mean() > _MOST_CROWD:
        findings.add(MOSTLY_CROWD, f"{boxes.crowd.sum()} of {len(boxes.crowd)}")
    if part.name == "train":
        if not annotations.training_images:
            findings.add(NOTHING)
    if part.name == "train" or (part.learnt and annotations.labelled):
        note_training(annotations, findings)
    if part.name != "train":
        note_validation(annotations, MAX_DETECTIONS, findings)
    if not part.learnt:
        note_judges(annotations, findings)

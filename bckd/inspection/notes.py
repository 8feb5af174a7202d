"""What is odd in a data set that can be read: noted by kind, for training and `bckd data check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.datasets.findings import Fault, Findings, Kind, Oddity
from bckd.datasets.image_files import ImageFile, repeated, shared
from bckd.evaluation.average_precision import ceiling

UNUSED = Oddity("classes without a box to learn from")
BELOW_A_PIXEL = Oddity("boxes below a pixel are not learnt")
NO_BOX = Oddity("images without a box are left out of training")
UNLABELLED = Oddity("images that are not labelled: a teacher alone can say what is in them")
NO_JUDGE = Fault(
    "images to evaluate on that are marked as not labelled", "expected labels, or no entry of them"
)
NOTHING_TO_LEARN = Oddity(
    "images with nothing but crowd regions or boxes below a pixel are left out of training"
)
TURNED = Oddity(
    "images are turned as their EXIF orientation says, and their boxes taken for those of the "
    "turned image"
)
TWICE = Oddity("images that are there twice")
TRAINED_ON = Oddity("images that are trained on too, so that AP says how well they are remembered")
NOT_LEARNT = Oddity(
    "classes that are judged with no box to learn them from, so that their AP will be about 0"
)
NOT_JUDGED = Oddity(
    "classes that are learnt with no box to judge them by, so that AP says nothing of them"
)


def note_training(annotations: Annotations, findings: Findings) -> None:
    """Note what is not learnt from."""
    pairs = zip(annotations.class_names, annotations.category_ids, strict=True)
    idle = annotations.idle_classes
    unused = [f"{name!r} (id {identity})" for name, identity in pairs if name in idle]
    _note(findings, UNUSED, unused)
    boxes = annotations.truth.boxes
    _note(findings, BELOW_A_PIXEL, [f"entry {n}" for n in boxes.numbers[~boxes.learnable]])
    used = {image.id for image in annotations.training_images}
    boxed = {annotations.images[n].id for n in np.unique(boxes.images)}
    left_out = [image for image in annotations.images if image.id not in used]
    _note(findings, NO_BOX, [x.file_name for x in left_out if x.id not in boxed])
    _note(findings, NOTHING_TO_LEARN, [x.file_name for x in left_out if x.id in boxed])
    _note(findings, UNLABELLED, [x.file_name for x in annotations.unlabelled_images])


def note_judges(annotations: Annotations, findings: Findings) -> None:
    """Note images that nothing can be judged by, among others."""
    if annotations.labelled:
        _note(findings, NO_JUDGE, [image.file_name for image in annotations.unlabelled_images])


def note_validation(annotations: Annotations, max_detections: int, findings: Findings) -> None:
    """Note what AP can't say.

    Args:
        max_detections: of an image, that will be judged.
    """
    if not annotations.labelled:
        findings.add(Oddity("there are no 'annotations', so AP is unknown"))
    elif annotations.truth.boxes.crowd.all():
        findings.add(Oddity("there is no object to find, so AP is unknown"))
    counts = annotations.truth.counts(len(annotations.images))
    crowded = np.flatnonzero(counts > max_detections)
    if len(crowded):
        highest = 100 * ceiling(annotations, max_detections)
        kind = Oddity(
            f"AP can't be above {highest:.1f}, as {max_detections} detections of an image are kept "
            f"and judged (`bckd eval --max-detections` sets another number) and there are images "
            f"with more objects"
        )
        findings.add(
            kind, *(f"{annotations.images[n].file_name} with {counts[n]}" for n in crowded)
        )


def note_files(files: Sequence[ImageFile], findings: Findings) -> None:
    """Note which files are turned, and which are there twice."""
    _note(findings, TURNED, [str(file.path) for file in files if file.orientation != 1])
    _note(findings, TWICE, [_named(file, other) for file, other in repeated(files)])


def note_shared(
    training: Sequence[ImageFile], validation: Sequence[ImageFile], findings: Findings
) -> None:
    """Note which images of the validation are trained on."""
    _note(findings, TRAINED_ON, [_named(*pair) for pair in shared(validation, training)])


def note_judged(
    training: Annotations, validation: Annotations, listed: frozenset[str], findings: Findings
) -> None:
    """Note which classes have a box to learn from and none to judge by, or the reverse.

    Args:
        listed: the classes that the validation's file lists.
    """
    names, judged = training.class_names, validation.learnable_classes
    if not judged:  # then AP is unknown, which `note_validation` says
        return
    # What is in images without labels, a teacher knows.
    learnt = frozenset(names) if training.unlabelled_images else training.learnable_classes
    _note(findings, NOT_LEARNT, [name for name in names if name in judged - learnt])
    _note(findings, NOT_JUDGED, [name for name in names if name in (learnt - judged) & listed])


def _note(findings: Findings, kind: Kind, places: Sequence[str]) -> None:
    if places:
        findings.add(kind, *places)


def _named(file: Path, other: Path) -> str:
    return str(file) if file == other else f"{file} as {other}"

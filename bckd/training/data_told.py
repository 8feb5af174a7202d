"""What is told of a data set before it is used: what was made of its files, what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.image_files import repeated, shared
from bckd.evaluation.average_precision import ceiling
from bckd.system.telling import tell, tell_some


def tell_annotations(annotations: Annotations) -> None:
    """Tell what was odd in an annotation file."""
    annotations.findings.tell()


def tell_training(dataset: CocoDataset) -> None:
    """Tell what of a data set is not learnt from, and what is there twice."""
    annotations = dataset.annotations
    path = annotations.path
    pairs = zip(annotations.class_names, annotations.category_ids, strict=True)
    learnable = annotations.learnable_classes
    unused = [f"{name!r} (id {identity})" for name, identity in pairs if name not in learnable]
    tell_some(f"{path}: classes without a box to learn from ({{}})", unused)
    if annotations.too_small:
        tell(f"{path}: boxes below a pixel are not learnt ({annotations.too_small})")
    used = {image.id for image in dataset.images}
    boxed = {annotations.images[n].id for n in np.unique(annotations.truth.boxes.images)}
    left_out = [image for image in annotations.images if image.id not in used]
    for what, names in (
        ("without a box", [x.file_name for x in left_out if x.id not in boxed]),
        (
            "with nothing but crowd regions or boxes below a pixel",
            [x.file_name for x in left_out if x.id in boxed],
        ),
    ):
        tell_some(f"{path}: images {what} are left out of training ({{}})", names)
    _tell_files(dataset)


def tell_validation(dataset: CocoDataset, max_detections: int) -> None:
    """Tell what AP can say on a data set, and what is there twice."""
    annotations = dataset.annotations
    path = annotations.path
    if not annotations.labelled:
        tell(f"{path} has no 'annotations': AP is unknown")
    elif annotations.truth.boxes.crowd.all():
        tell(f"{path} has no object to find: AP is unknown")
    _tell_ceiling(annotations, max_detections)
    _tell_files(dataset)


def _tell_ceiling(annotations: Annotations, max_detections: int) -> None:
    counts = annotations.truth.counts(len(annotations.images))
    crowded = [
        f"{annotations.images[n].file_name} with {counts[n]}"
        for n in np.flatnonzero(counts > max_detections)
    ]
    if crowded:
        highest = 100 * ceiling(annotations, max_detections)
        tell_some(
            f"{annotations.path}: AP can't be above {highest:.1f}, as {max_detections} detections "
            f"of an image are kept and judged (`bckd eval --max-detections` sets another number) "
            f"and there are images with more objects ({{}})",
            crowded,
        )


def _tell_files(dataset: CocoDataset) -> None:
    path = dataset.annotations.path
    turned = [str(file.path) for file in dataset.files if file.orientation != 1]
    tell_some(
        f"{path}: images are turned as their EXIF orientation says, and their boxes taken for "
        f"those of the turned image ({{}})",
        turned,
    )
    twice = [_named(file, other) for file, other in repeated(dataset.files)]
    tell_some(f"{path}: images that are there twice ({{}})", twice)


def tell_shared(training: CocoDataset, validation: CocoDataset) -> None:
    """Tell which images of the validation are trained on."""
    names = [_named(file, other) for file, other in shared(validation.files, training.files)]
    tell_some(
        f"{validation.annotations.path}: images that are trained on too, so that AP says how well "
        f"they are remembered ({{}})",
        names,
    )


def tell_judged(training: Annotations, validation: Annotations, listed: frozenset[str]) -> None:
    """Tell which classes have a box to learn from and none to judge by, or the reverse.

    Args:
        validation: with the classes of the training's.
        listed: those that the validation's file lists.
    """
    learnt, judged = training.learnable_classes, validation.learnable_classes
    if not judged:  # then AP is unknown, which `tell_validation` says
        return
    names = training.class_names
    tell_some(
        f"{validation.path}: classes that are judged with no box to learn them from, so that "
        f"their AP will be about 0 ({{}})",
        [name for name in names if name in judged - learnt],
    )
    tell_some(
        f"{validation.path}: classes that are learnt with no box to judge them by, so that AP says "
        f"nothing of them ({{}})",
        [name for name in names if name in (learnt - judged) & listed],
    )


def _named(file: Path, other: Path) -> str:
    return str(file) if file == other else f"{file} as {other}"

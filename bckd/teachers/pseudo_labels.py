"""A teacher's detections as labels (hard pseudo-labels), which a student learns from by itself.

They are what most people do in place of distillation: the boxes above a score, as if somebody had
drawn them. Of the teacher's doubts nothing is left but that score, which is written beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.to_label import ToLabel
from bckd.evaluation.average_precision import detect, evaluation_loader
from bckd.evaluation.matches import match
from bckd.evaluation.operating_points import image_counts
from bckd.evaluation.scorers import Results
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector

IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class PseudoLabels:
    """What a teacher says of images that had no labels, and how far it is right where they have.

    Attributes:
        rows: annotations in COCO's format, without ids, in the order of the images, the best first.
        known: images with labels.
        precision, recall: of such boxes on these, at IoU .5; None: there is nothing to divide by.
    """

    rows: list[dict[str, Any]]
    known: int
    precision: float | None
    recall: float | None

    @property
    def images(self) -> int:
        """How many have a box."""
        return len({row["image_id"] for row in self.rows})


def pseudo_labels(
    teacher: DenseDetector,
    size: ImageSize,
    to_label: ToLabel,
    folder: Any,
    threshold: float,
    workers: int = 0,
    progress: bool = True,
) -> PseudoLabels:
    """What a teacher finds, with a score of `threshold` or more.

    Args:
        teacher: with the classes of the file.
        size: how its images are brought to size.
        folder: of the images.
        workers: processes that load images.

    Raises:
        InputError: an image can't be used, or a box or a score is no number.
    """
    annotations = to_label.annotations
    dataset = CocoDataset(folder, annotations, size, normalisation=teacher.normalisation)
    loader = evaluation_loader(dataset, IMAGES_AT_ONCE, workers)
    found = detect(teacher, loader, annotations, progress, "the teacher")
    place = {image.id: n for n, image in enumerate(annotations.images)}
    found = [row for row in found if row["score"] >= threshold and min(row["bbox"][2:]) > 0]
    found.sort(key=lambda row: place[row["image_id"]])
    free = {image.id for image in annotations.images if not image.labelled}
    rows = [_annotation(row) for row in found if row["image_id"] in free]
    return PseudoLabels(rows, len(to_label.labels.images), *_agreement(found, to_label.labels))


def _annotation(row: dict[str, Any]) -> dict[str, Any]:
    _, _, width, height = row["bbox"]
    return {**row, "area": round(width * height, 3), "iscrowd": 0}


def _agreement(found: Results, labels: Annotations) -> tuple[float | None, float | None]:
    """Precision and recall against labels."""
    known = {image.id for image in labels.images}
    if not known:
        return None, None
    counts = image_counts(match([row for row in found if row["image_id"] in known], labels), 0.0)
    right, missed, false = (int(x.sum()) for x in (counts.found, counts.missed, counts.false))
    precision = right / (right + false) if right + false else None
    return precision, right / (right + missed) if right + missed else None

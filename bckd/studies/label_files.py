"""Labels of the photographs that studies need beside their own: fewer, or a teacher's boxes.

Instances files of the same images, in a folder beside the data: labels for a tenth of the images
and for none, the others marked as not labelled; and the same with the published teacher's boxes
where there is no label (hard pseudo-labels), from several scores on, found at the size of image
that it was made for, 320 pixels, or at that of the students' images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bckd.image_size import ImageSize
from bckd.system.files import read_json, write_text

DATA = Path("data/voc2007")
FOLDER = DATA / "../voc2007-labels"  # also where that is a link
TRAIN, ANNOTATIONS = "train", "annotations/instances_train.json"  # in DATA
LABELLED = {"tenth": 280, "none": 0}  # images that keep their labels, the first ones by id
THRESHOLD = 0.3  # score of a box that is taken for a label, as `bckd data label` has it
OTHER_THRESHOLDS = (0.2, 0.4, 0.5)  # tried beside it
STUDENTS_SIDE = 224  # pixels, of the longer side of the students' images


@dataclass(frozen=True)
class PseudoLabels:
    """How a file of a teacher's boxes is made.

    Attributes:
        labels: of `LABELLED`: the images that keep theirs.
        threshold: score of a box that is taken for a label.
        side: of the images that it is shown, the longer one, in pixels; None: the teacher's own.
    """

    labels: str
    threshold: float = THRESHOLD
    side: int | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        score = "" if self.threshold == THRESHOLD else f"-{self.threshold}"
        size = "" if self.side is None else f"-{self.side}px"
        return f"{self.labels}-pseudo{score}{size}.json"

    @property
    def annotations(self) -> str:
        """The file, as seen from the data set's folder."""
        return f"../{FOLDER.name}/{self.name}"


PSEUDO_LABELS = (
    *(PseudoLabels(x, score) for x in LABELLED for score in (THRESHOLD, *OTHER_THRESHOLDS)),
    PseudoLabels("none", side=STUDENTS_SIDE),
)


def marked_file(labels: str) -> str:
    """The file of a part of the labels, as seen from the data set's folder."""
    return f"../{FOLDER.name}/{labels}.json"


def are_of(annotations: str) -> bool:
    """Whether a recipe's file of training annotations is one of these."""
    return annotations in {*map(marked_file, LABELLED), *(x.annotations for x in PSEUDO_LABELS)}


def write_label_files(teacher: str, data: Path = DATA, folder: Path = FOLDER) -> None:
    """Write those of the files that are not there.

    Args:
        teacher: a published name, or a file of weights.
        data: the photographs.

    Raises:
        InputError: the photographs or the teacher can't be read, or a file can't be written.
    """
    for labels, count in LABELLED.items():
        marked = folder / f"{labels}.json"
        if not marked.is_file():
            content = keeping_labels(read_json(data / ANNOTATIONS), count)
            write_text(marked, json.dumps(content))
        asked = [x for x in PSEUDO_LABELS if x.labels == labels]
        absent = [x for x in asked if not (folder / x.name).is_file()]
        for side in {x.side for x in absent}:
            alike = [x for x in absent if x.side == side]
            found = _with_teachers_boxes(marked, teacher, data, alike)
            for each in alike:
                write_text(folder / each.name, json.dumps(_of_score(found, each.threshold)))


def keeping_labels(content: dict[str, Any], count: int) -> dict[str, Any]:
    """An instances file's content in which only the first images by id have labels."""
    ids = sorted(image["id"] for image in content["images"])
    kept = set(ids[:count])
    images = [
        image if image["id"] in kept else {**image, "labelled": False}
        for image in content["images"]
    ]
    boxes = [box for box in content["annotations"] if box["image_id"] in kept]
    return {**content, "images": images, "annotations": boxes}


def _of_score(content: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Without the teacher's boxes of a lower score."""
    boxes = [x for x in content["annotations"] if x.get("score", 1.0) >= threshold]
    return {**content, "annotations": boxes}


def _with_teachers_boxes(
    marked: Path, teacher: str, data: Path, alike: Sequence[PseudoLabels]
) -> dict[str, Any]:
    """The content of a file without labels with the boxes for all files of one size of image."""
    # Late: to list studies needs neither images nor detectors.
    from bckd.datasets.to_label import images_to_label
    from bckd.teachers.matching import matched
    from bckd.teachers.pseudo_labels import pseudo_labels
    from bckd.zoo.checkpoints import load_detector

    images = data / TRAIN
    to_label = images_to_label(images, marked, (), "unlabelled", unlisted=False)
    checkpoint = load_detector(teacher)
    detector = checkpoint.detector
    taken = (to_label.annotations.class_names, detector.strides, detector.normalisation)
    detector = matched(detector, f"teacher {teacher}", *taken)
    (side,) = {x.side for x in alike}
    size = checkpoint.size if side is None else ImageSize(side, side)
    threshold = min(x.threshold for x in alike)
    said = pseudo_labels(detector, size, to_label, images, threshold, progress=False)
    return to_label.with_boxes(said.rows)

"""Labels of the photographs that studies need beside their own: fewer, or a teacher's boxes.

Instances files of the same images, in a folder beside the data: labels for a tenth of the images
and for none, the others marked as not labelled; and the same with the published teacher's boxes
where there is no label (hard pseudo-labels), from several scores on, found at the size of image
that it was made for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bckd.system.files import read_json, write_text

DATA = Path("data/voc2007")
FOLDER = DATA / "../voc2007-labels"  # also where that is a link
TRAIN, ANNOTATIONS = "train", "annotations/instances_train.json"  # in DATA
LABELLED = {"tenth": 280, "none": 0}  # images that keep their labels, the first ones by id
THRESHOLD = 0.3  # score of a box that is taken for a label, as `bckd data label` has it
OTHER_THRESHOLDS = (0.2, 0.4, 0.5)  # tried beside it
THRESHOLDS = (THRESHOLD, *OTHER_THRESHOLDS)


def marked_file(labels: str) -> str:
    """The file of a part of the labels, as seen from the data set's folder."""
    return f"../{FOLDER.name}/{labels}.json"


def pseudo_file(labels: str, threshold: float = THRESHOLD) -> str:
    """The same with the teacher's boxes of that score or more on all other images."""
    suffix = "" if threshold == THRESHOLD else f"-{threshold}"
    return f"../{FOLDER.name}/{labels}-pseudo{suffix}.json"


def are_of(annotations: str) -> bool:
    """Whether a recipe's file of training annotations is one of these."""
    pseudo = {pseudo_file(x, score) for x in LABELLED for score in THRESHOLDS}
    return annotations in pseudo | {*map(marked_file, LABELLED)}


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
        files = {x: folder / Path(pseudo_file(labels, x)).name for x in THRESHOLDS}
        absent = {threshold: path for threshold, path in files.items() if not path.is_file()}
        if absent:
            found = _with_teachers_boxes(marked, teacher, data, min(absent))
            for threshold, path in absent.items():
                write_text(path, json.dumps(_of_score(found, threshold)))


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
    marked: Path, teacher: str, data: Path, threshold: float
) -> dict[str, Any]:
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
    said = pseudo_labels(detector, checkpoint.size, to_label, images, threshold, progress=False)
    return to_label.with_boxes(said.rows)

"""Which detections are right, found once, as columns that every later question is put to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.evaluation.scorers import Results, check_known, hotcoco_evaluation

IOUS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2)}
AREAS["large"] = (AREAS["medium"][1], AREAS["all"][1])
# Of a class: rows, images, scores, and (IoU, rows) whether right, whether counted.
_Entry = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_IMAGES = 500  # that are matched at a time: hotcoco hands matches out as Python's lists


@dataclass(frozen=True)
class ClassMatches:
    """The D detections of one class against its objects of one range of areas, best first.

    Attributes:
        rows: (D,) places in the results.
        images: (D,) positions of their images.
        scores: (D,) float64, falling; equal ones in the order of their images.
        right: (IoU, D) bool: the object that it has found counts.
        counted: (IoU, D) bool: not so where it found a crowd region or an object of another
            area, or is itself of another area and found nothing.
        objects: (images,) how many are to be found in each.
    """

    rows: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Detections matched with the objects of a data set, as COCO's evaluation does it.

    Attributes:
        class_names: of the K classes, in the order of their category ids.
        image_ids: of the N images, in their order.
        classes: by name of the range of areas, the matches of each class.
        found: by place in the results, the number of the annotation (its `id` in
            `Annotations.content`) that it finds at IoU .5.
    """

    class_names: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    classes: dict[str, tuple[ClassMatches, ...]]
    found: dict[int, int]

    @property
    def known(self) -> tuple[bool, ...]:
        """Of each class, whether there is an object to find."""
        return tuple(bool(one.objects.any()) for one in self.classes["all"])


def match(
    results: Results, annotations: Annotations, max_detections: int = MAX_DETECTIONS
) -> Matches:
    """Match COCO results with the annotations, for all IoUs and ranges of areas.

    Args:
        max_detections: of an image and class that are judged, the best.

    Raises:
        InputError: a detection is of an image or a category that is not annotated.
    """
    check_known(results, annotations)
    rows = _columns(results, annotations)
    evaluation = hotcoco_evaluation([results[n] for n in rows.near], annotations)
    evaluation.params.maxDets = [max_detections]
    images, classes = len(annotations.images), len(annotations.truth.categories)
    found: dict[int, int] = {}
    matched = {}
    for area, ends in AREAS.items():
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(ends)], [area]
        entries = [[one] for one in _alone(rows, classes, max_detections, ends)]
        objects = np.zeros((classes, images), dtype=np.int32)
        for entry in _entries(evaluation, images):
            image, label = entry["image_id"], entry["category_id"]
            objects[label, image] = sum(not ignored for ignored in entry["gtIgnore"])
            if not (count := len(entry["dtIds"])):
                continue
            own = rows.near[np.array(entry["dtIds"]) - 1]  # hotcoco counts from 1
            ignored = np.array(entry["dtIgnore"], dtype=bool)
            right = np.array(entry["dtMatched"], dtype=bool) & ~ignored
            entries[label].append(
                (own, np.full(count, image), np.array(entry["dtScores"]), right, ~ignored)
            )
            if area == "all":
                pairs = zip(own.tolist(), entry["dtMatches"][0], right[0], strict=True)
                found |= {row: int(number) for row, number, is_right in pairs if is_right}
        matched[area] = tuple(_sorted(*pair) for pair in zip(entries, objects, strict=True))
    names = tuple(name for _, name in annotations.truth.categories)
    return Matches(names, tuple(image.id for image in annotations.images), matched, found)


@dataclass(frozen=True)
class _Columns:
    """The results as columns, each (rows,), and where they have something to be matched with.

    Attributes:
        near, alone: the rows whose image has a box of their class (most have not), and the others.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    near: np.ndarray
    alone: np.ndarray


def _columns(results: Results, annotations: Annotations) -> _Columns:
    places = {image.id: n for n, image in enumerate(annotations.images)}
    categories = {key: n for n, (key, _) in enumerate(annotations.truth.categories)}
    images = np.array([places[row["image_id"]] for row in results], dtype=np.int64)
    labels = np.array([categories[row["category_id"]] for row in results], dtype=np.int64)
    boxes = annotations.truth.boxes
    pairs = boxes.images.astype(np.int64) * len(categories) + boxes.labels
    near = np.isin(images * len(categories) + labels, pairs)
    return _Columns(
        images,
        labels,
        scores=np.array([row["score"] for row in results], dtype=np.float64),
        areas=np.array([row["bbox"][2] * row["bbox"][3] for row in results], dtype=np.float64),
        near=np.flatnonzero(near),
        alone=np.flatnonzero(~near),
    )


def _alone(
    columns: _Columns, classes: int, max_detections: int, ends: tuple[float, float]
) -> Iterator[_Entry]:
    """For each class, the detections on images that have no box of it: right they can't be."""
    for label in range(classes):
        rows = columns.alone[columns.labels[columns.alone] == label]
        rows = rows[np.lexsort((-columns.scores[rows], columns.images[rows]))]
        images = columns.images[rows]
        rank = np.arange(len(rows)) - np.searchsorted(images, images)
        rows = rows[rank < max_detections]
        within = (columns.areas[rows] >= ends[0]) & (columns.areas[rows] <= ends[1])
        counted = np.tile(within, (len(IOUS), 1))
        yield rows, columns.images[rows], columns.scores[rows], np.zeros_like(counted), counted


def _entries(evaluation: Any, images: int) -> Iterator[dict[str, Any]]:
    """hotcoco's matches of each image and class that have a box or a detection."""
    for start in range(0, images, _IMAGES):
        evaluation.params.imgIds = list(range(start, min(start + _IMAGES, images)))
        evaluation.evaluate()
        yield from (entry for entry in evaluation.eval_imgs if entry is not None)


def _sorted(entries: Sequence[_Entry], objects: np.ndarray) -> ClassMatches:
    """The matches of all images as one, by falling score."""
    rows, images, scores, right, counted = (
        np.concatenate(columns, axis=-1) for columns in zip(*entries, strict=True)
    )
    order = np.argsort(images, kind="stable")
    order = order[np.argsort(-scores[order], kind="stable")]
    return ClassMatches(
        rows[order], images[order], scores[order], right[:, order], counted[:, order], objects
    )

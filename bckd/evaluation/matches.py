"""Which detections are right, found once, as columns that every later question is put to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.evaluation.scorers import Results, hotcoco_evaluation

IOUS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2)}
AREAS["large"] = (AREAS["medium"][1], AREAS["all"][1])
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
    evaluation = hotcoco_evaluation(results, annotations)
    evaluation.params.maxDets = [max_detections]
    images, classes = len(annotations.images), len(annotations.truth.categories)
    found: dict[int, int] = {}
    matched = {}
    for area, ends in AREAS.items():
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(ends)], [area]
        entries: list[list[Any]] = [[] for _ in range(classes)]
        objects = np.zeros((classes, images), dtype=np.int32)
        for entry in _entries(evaluation, images):
            image, label = entry["image_id"], entry["category_id"]
            objects[label, image] = sum(not ignored for ignored in entry["gtIgnore"])
            if not (count := len(entry["dtIds"])):
                continue
            ignored = np.array(entry["dtIgnore"], dtype=bool)
            right = np.array(entry["dtMatched"], dtype=bool) & ~ignored
            entries[label].append(
                (entry["dtIds"], [image] * count, entry["dtScores"], right, ~ignored)
            )
            if area == "all":
                pairs = zip(entry["dtIds"], entry["dtMatches"][0], right[0], strict=True)
                found |= {row - 1: int(number) for row, number, is_right in pairs if is_right}
        matched[area] = tuple(_sorted(*pair) for pair in zip(entries, objects, strict=True))
    names = tuple(name for _, name in annotations.truth.categories)
    return Matches(names, tuple(image.id for image in annotations.images), matched, found)


def _entries(evaluation: Any, images: int) -> Iterator[dict[str, Any]]:
    """hotcoco's matches of each image and class that have a box or a detection."""
    for start in range(0, images, _IMAGES):
        evaluation.params.imgIds = list(range(start, min(start + _IMAGES, images)))
        evaluation.evaluate()
        yield from (entry for entry in evaluation.eval_imgs if entry is not None)


def _sorted(entries: Sequence[Any], objects: np.ndarray) -> ClassMatches:
    """The matches of all images as one, by falling score; hotcoco counts rows from 1."""
    if not entries:
        none, no = np.zeros(0, dtype=np.int64), np.zeros((len(IOUS), 0), dtype=bool)
        return ClassMatches(none, none, np.zeros(0), no, no, objects)
    rows, images, scores, right, counted = (
        np.concatenate(columns, axis=-1) for columns in zip(*entries, strict=True)
    )
    order = np.argsort(images, kind="stable")
    order = order[np.argsort(-scores[order], kind="stable")]
    chosen = (column[..., order] for column in (rows - 1, images, scores, right, counted))
    return ClassMatches(*chosen, objects)

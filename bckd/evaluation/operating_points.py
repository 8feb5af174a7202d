"""What a detector is worth at one score from which on its detections are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.evaluation.matches import IOUS, ClassMatches, Matches
from bckd.evaluation.scorers import Results, hotcoco_evaluation

IOU = 0.5  # from here on a box counts as found
_IOU = IOUS.index(IOU)


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold with the highest F1, and what it gives; at IoU .5.

    Attributes:
        threshold: the lowest score that is kept; None without a right detection: all are refused.
        precision, recall, f1: of the detections kept; None where there is no object.
        objects: that are to be found.
    """

    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    objects: int


def best_point(classes: Sequence[ClassMatches]) -> OperatingPoint:
    """The best one threshold for these classes together (or for one of them).

    Of thresholds that are equally good the highest is taken.
    """
    objects = sum(int(one.objects.sum()) for one in classes)
    scores, right = _counted(classes)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))[: len(scores)]
    if not objects:
        return OperatingPoint(None, None, None, None, 0)
    if not len(hits) or not hits[-1]:
        return OperatingPoint(None, None, 0.0, 0.0, objects)
    kept = last + 1
    f1 = 2 * hits[last] / (kept + objects)
    best = int(np.argmax(f1))
    found = int(hits[last[best]])
    return OperatingPoint(
        threshold=float(scores[last[best]]),
        precision=found / int(kept[best]),
        recall=found / objects,
        f1=float(f1[best]),
        objects=objects,
    )


def _counted(classes: Sequence[ClassMatches]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the detections that count, and whether each is right."""
    counted = [one.counted[_IOU] for one in classes]
    pairs = list(zip(classes, counted, strict=True))
    scores = np.concatenate([np.zeros(0), *(one.scores[kept] for one, kept in pairs)])
    right = np.concatenate([np.zeros(0, bool), *(one.right[_IOU][kept] for one, kept in pairs)])
    return scores, right


@dataclass(frozen=True)
class ImageCounts:
    """What a detector does on each image at a threshold; each (images,) int.

    Attributes:
        found: objects.
        missed: objects.
        false: detections of no object, or of one that is found already.
    """

    found: np.ndarray
    missed: np.ndarray
    false: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """(images,) missed objects and false detections."""
        return self.missed + self.false


def image_counts(matches: Matches, threshold: float | None) -> ImageCounts:
    """Count what is right and wrong on each image; None: nothing is kept."""
    images = len(matches.image_ids)
    found, false, objects = (np.zeros(images, dtype=np.int64) for _ in range(3))
    for one in matches.classes["all"]:
        objects += one.objects
        kept = one.counted[_IOU] & (one.scores >= (np.inf if threshold is None else threshold))
        right = one.right[_IOU]
        found += np.bincount(one.images[kept & right], minlength=images)
        false += np.bincount(one.images[kept & ~right], minlength=images)
    return ImageCounts(found, objects - found, false)


def kept_rows(matches: Matches, threshold: float | None) -> dict[int, bool]:
    """By place in the results, whether each detection is right that counts at a threshold."""
    kept: dict[int, bool] = {}
    for one in matches.classes["all"]:
        chosen = one.counted[_IOU] & (one.scores >= (np.inf if threshold is None else threshold))
        kept |= zip(one.rows[chosen].tolist(), one.right[_IOU][chosen].tolist(), strict=True)
    return kept


def confusion(
    results: Results, annotations: Annotations, matches: Matches, threshold: float | None
) -> np.ndarray:
    """How often objects of each class are taken for each: (K + 1, K + 1) int64.

    Rows are the objects' classes, in the order of `matches.class_names`, columns the detections';
    the last row are detections of no object, the last column objects that are missed. Here a
    detection may find an object of any class (IoU .5), best scores first. What lies in a crowd
    region counts for nothing.
    """
    kept = [results[row] for row in sorted(kept_rows(matches, threshold))]
    found = hotcoco_evaluation(kept, annotations).confusion_matrix(iou_thr=IOU)
    return found["matrix"].astype(np.int64)

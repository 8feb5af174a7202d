"""What is systematically wrong with a teacher's detections: names that are exchanged, boxes moved.

Both are read off what it found on a few labelled images. A weak teacher is not accused: classes
count as exchanged only where most objects of each are called the other, and hardly any its own;
boxes as moved only where moving all of them back alike makes at least twice as many right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bckd.datasets.annotations import Annotations
from bckd.evaluation.scorers import Results
from bckd.geometry import box_similarity

FOUND_IOU = 0.5  # from here on an object counts as seen, whatever it is called
RIGHT_IOU = 0.7  # and its box as right
OWN_SHARE = 0.5  # of the best score: an own name that scores as much is what the object is called
LEAST_SEEN = 3  # objects of a class, to say that it is exchanged with another
LEAST_TOLD = 5  # objects of a class, to tell what becomes of it alone
LEAST_BOXES = 10  # objects, to say that boxes are moved
MOST = 0.6  # of the objects that are seen of a class
HARDLY = 0.25
GAIN = 2.0  # times as many boxes right
LEAST_RIGHT = 0.4  # of the objects, once boxes are moved back
SCALES = (1, 1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 4, 4 / 3, 3 / 2, 2)  # that are tried
_BIN = 4.0  # pixels, within which shifts of two boxes are the same


@dataclass(frozen=True)
class Seen:
    """The objects of one image, crowd regions left out, and the teacher's detections there.

    Attributes:
        labels, boxes: (T,) class indices and (T, 4) xyxy of the objects.
        found_labels, found_boxes, scores: (D,), (D, 4), (D,) of the detections, best first.
    """

    labels: np.ndarray
    boxes: np.ndarray
    found_labels: np.ndarray
    found_boxes: np.ndarray
    scores: np.ndarray


def seen_in(results: Results, annotations: Annotations) -> list[Seen]:
    """Objects and detections, image by image."""
    index = {key: n for n, key in enumerate(annotations.category_ids) if key is not None}
    rows = [row for row in annotations.content["annotations"] if not row["iscrowd"]]
    truth, found = _by_image(rows), _by_image(sorted(results, key=lambda row: -row["score"]))
    seen = []
    for image in annotations.images:
        objects, detections = truth.get(image.id, []), found.get(image.id, [])
        labels, found_labels = (
            np.array([index[row["category_id"]] for row in part], dtype=int)
            for part in (objects, detections)
        )
        scores = np.array([row["score"] for row in detections], dtype=float)
        corners = (_corners(objects), _corners(detections))
        seen.append(Seen(labels, corners[0], found_labels, corners[1], scores))
    return seen


def _by_image(rows: Results) -> dict[Any, Results]:
    found: dict[Any, Results] = {}
    for row in rows:
        found.setdefault(row["image_id"], []).append(row)
    return found


def _corners(rows: Results) -> np.ndarray:
    boxes = np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def names_given(seen: Sequence[Seen], classes: int) -> np.ndarray:
    """(K, K) how many objects of a class (row) that were seen are called which (column)."""
    counts = np.zeros((classes, classes), dtype=int)
    for image in seen:
        hit = _iou(image.boxes, image.found_boxes) >= FOUND_IOU
        for label, row in zip(image.labels, hit, strict=True):
            if not row.any():
                continue
            best = int(np.flatnonzero(row)[0])  # detections come best first
            own = row & (image.found_labels == label)
            known = own.any() and image.scores[own].max() >= OWN_SHARE * image.scores[best]
            counts[label, label if known else image.found_labels[best]] += 1
    return counts


def called_otherwise(counts: np.ndarray, least: int) -> dict[int, int]:
    """What most objects of a class are called, where that is another and hardly any its own.

    Args:
        least: objects of a class that have to be seen.
    """
    found = {}
    for label, row in enumerate(counts):
        total, other = row.sum(), int(row.argmax())
        if total >= least and row[other] >= MOST * total and row[label] <= HARDLY * total:
            found[label] = other
    return found


def exchanged(counts: np.ndarray) -> list[list[int]]:
    """Circles of classes, each of which is called as the next one is."""
    called = called_otherwise(counts, LEAST_SEEN)
    circles: list[list[int]] = []
    for start in called:
        circle = [start]
        while (following := called.get(circle[-1])) is not None and following not in circle:
            circle.append(following)
        if called.get(circle[-1]) == start and start == min(circle):
            circles.append(circle)
    return circles


@dataclass(frozen=True)
class Moved:
    """How boxes lie that are systematically beside their objects.

    Attributes:
        scale: of all coordinates, from the image's origin.
        shift: (x, y) in pixels of the file, that they lie right and below once scaled.
        size: (width, height) as a multiple of the object's.
    """

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    size: tuple[float, float] = (1.0, 1.0)

    def undone(self, boxes: np.ndarray) -> np.ndarray:
        """(D, 4) where they would lie if they were right."""
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / self.scale - self.shift
        half = (boxes[:, 2:] - boxes[:, :2]) / 2 / self.scale / self.size
        return np.concatenate([centres - half, centres + half], axis=1)

    def __str__(self) -> str:
        parts = []
        if abs(self.scale - 1) > 0.05:
            parts.append(f"are scaled by {self.scale:.2f} from the image's corner")
        if max(map(abs, self.shift)) >= 1:
            ways = zip(self.shift, (("right", "left"), ("below", "above")), strict=True)
            told = [f"{abs(x):.0f} pixels {way[x < 0]}" for x, way in ways if abs(x) >= 1]
            parts.append(f"lie {' and '.join(told)}")
        if max(abs(x - 1) for x in self.size) > 0.05:
            width, height = self.size
            parts.append(f"are {width:.2f} times as wide and {height:.2f} times as high")
        return " and ".join(parts)


def moved(seen: Sequence[Seen]) -> Moved | None:
    """How all boxes lie beside their objects; None where they do not, or too little tells."""
    seen = [_likely(image) for image in seen]
    total = sum(len(image.labels) for image in seen)
    if total < LEAST_BOXES:
        return None
    best: Moved | None = None
    most = max(GAIN * _right(seen, Moved()), LEAST_RIGHT * total)
    if most > total:
        return None
    for scale in SCALES:
        for start in (Moved(scale), Moved(scale, _usual_shift(seen, scale))):
            found = _refined(seen, start)
            count = _right(seen, found)
            if count >= most and (best is None or count > most):
                best, most = found, count
    return best


def _likely(image: Seen) -> Seen:
    """The best detections alone, twice as many as there are objects."""
    kept = slice(2 * len(image.labels))
    parts = {name: getattr(image, name)[kept] for name in ("found_labels", "found_boxes", "scores")}
    return replace(image, **parts)


def _overlaps(image: Seen, by: Moved) -> np.ndarray:
    """(T, D) IoU of objects and detections of their class, once moved back."""
    same = image.labels[:, None] == image.found_labels
    return np.where(same, _iou(image.boxes, by.undone(image.found_boxes)), 0.0)


def _right(seen: Sequence[Seen], by: Moved) -> int:
    """How many objects have a right box, once all are moved back."""
    return sum(int((_overlaps(image, by) >= RIGHT_IOU).any(axis=1).sum()) for image in seen)


def _usual_shift(seen: Sequence[Seen], scale: float) -> tuple[float, float]:
    """The shift in pixels that most pairs of an object and a detection of its class have."""
    shifts = []
    for image in seen:
        pairs = np.nonzero(image.labels[:, None] == image.found_labels)
        theirs, ours = _centres(image.found_boxes)[pairs[1]] / scale, _centres(image.boxes)
        shifts.append(theirs - ours[pairs[0]])
    every = np.concatenate(shifts) if shifts else np.zeros((0, 2))
    if not len(every):
        return 0.0, 0.0
    bins, counts = np.unique(np.round(every / _BIN), axis=0, return_counts=True)
    near = np.abs(every - bins[counts.argmax()] * _BIN).max(axis=1) <= _BIN
    x, y = np.median(every[near], axis=0)
    return float(x), float(y)


def _refined(seen: Sequence[Seen], start: Moved) -> Moved:
    """With the medians of what remains of shift and size, over objects that a box overlaps."""
    shifts, sizes = [], []
    for image in seen:
        overlaps = _overlaps(image, start)
        if not overlaps.size:
            continue
        best = overlaps.argmax(axis=1)
        rows = np.flatnonzero(overlaps.max(axis=1) > 0.1)
        theirs = start.undone(image.found_boxes)[best[rows]]
        shifts.append(_centres(theirs) - _centres(image.boxes)[rows])
        sizes.append(_sides(theirs) / _sides(image.boxes)[rows])
    if not shifts or not sum(map(len, shifts)):
        return start
    x, y = np.median(np.concatenate(shifts), axis=0)
    width, height = np.median(np.concatenate(sizes), axis=0)
    shift = (start.shift[0] + float(x), start.shift[1] + float(y))
    return replace(start, shift=shift, size=(float(width), float(height)))


def _centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _sides(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)


def _iou(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(T, D) intersection over union of boxes (T, 4) and (D, 4)."""
    pairs = torch.from_numpy(ours)[:, None], torch.from_numpy(theirs)[None]
    return box_similarity(*pairs).numpy()

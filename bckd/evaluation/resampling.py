"""How far a measure would differ on other images: the bootstrap (Efron 1979) of COCO's AP.

A resample draws as many images as there are, with replacement. Its AP is COCO's: images that
were drawn twice count twice, and no detection is matched anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from bckd.evaluation.matches import AREAS, IOUS, ClassMatches, Matches

RESAMPLINGS = 1000
LEVEL = 0.95
RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO's AP asks for the precision
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_NORMAL = NormalDist()
_PART = 4_000_000  # pairs of resample and detection that are looked at together


@dataclass(frozen=True)
class Interval:
    """A value, and its interval of 95 % (see `interval`).

    Attributes:
        value: on the images as they are; None where nothing is to be found.
        low, high: the ends; None where `value` is.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scores:
    """Measures of a detector on the images as they are (first row), and on B resamples.

    Attributes:
        measures: by name of `MEASURES`, (1 + B,); nan where nothing is to be found.
        per_class: (1 + B, classes) AP.
    """

    measures: dict[str, np.ndarray]
    per_class: np.ndarray


def resamples(images: int, count: int = RESAMPLINGS, seed: int = 0) -> np.ndarray:
    """How often each image is in each resample: (1 + count, images) int32.

    The first row is the images as they are. The same arguments give the same resamples, so that
    detectors can be compared on them (a paired bootstrap).
    """
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(count))
    return np.array([np.ones(images, dtype=np.int32), *drawn], dtype=np.int32)


def scores_of(matches: Matches, weights: np.ndarray) -> Scores:
    """COCO's AP and its parts on images that count several times, or not at all.

    Args:
        weights: (B, images), as `resamples` makes them.
    """
    precision, recall = {}, {}
    for area in AREAS:
        pairs = [_of_class(one, weights) for one in matches.classes[area]]
        precision[area], recall[area] = (
            np.stack(part, axis=1) for part in zip(*pairs, strict=True)
        )
    everywhere = precision["all"]  # (B, K, IoU)
    measures = {
        "AP": everywhere,
        "AP50": everywhere[..., [IOUS.index(0.5)]],
        "AP75": everywhere[..., [IOUS.index(0.75)]],
        "APs": precision["small"],
        "APm": precision["medium"],
        "APl": precision["large"],
        "AR100": recall["all"],
    }
    means = {name: _mean(values.reshape(len(weights), -1)) for name, values in measures.items()}
    return Scores(means, everywhere.mean(axis=-1))


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of each row's values that are known; nan where none is."""
    known = np.isfinite(values)
    sums = np.where(known, values, 0).sum(axis=1)
    return np.divide(sums, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(1))


def _of_class(one: ClassMatches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and recall of a class, each (B, IoU); nan where it has no object."""
    one = _that_count(one)
    size = max(_PART // max(len(one.rows), 1), 1)
    parts = [weights[start : start + size] for start in range(0, len(weights), size)]
    found = [_of_part(one, part) for part in parts]
    precision, recall = (np.concatenate(x) for x in zip(*found, strict=True))
    return precision, recall


def _that_count(one: ClassMatches) -> ClassMatches:
    """Without the detections that count at no IoU: in a range of areas these are most."""
    rows = np.flatnonzero(one.counted.any(axis=0))
    names = ("rows", "images", "scores", "right", "counted")
    return replace(one, **{name: getattr(one, name)[..., rows] for name in names})


def _of_part(one: ClassMatches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    objects = (weights @ one.objects).astype(np.float64)
    precision, recall = (np.full((len(weights), len(IOUS)), np.nan) for _ in range(2))
    there = objects > 0
    tried_by: dict[bytes, np.ndarray] = {}  # IoUs mostly count the same detections
    for n in range(len(IOUS)):
        counted, right = one.counted[n], one.right[n]
        key = counted.tobytes()
        if key not in tried_by:
            tried_by = {key: _cumulated(weights, one.images[counted])}
        tried = tried_by[key][:, right[counted]]
        hits = _cumulated(weights, one.images[right])
        values = _average(hits[there], tried[there], objects[there, None])
        precision[there, n], recall[there, n] = values
    return precision, recall


def _cumulated(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(B, detections) how many there are up to each, whose images these are."""
    return np.cumsum(np.take(weights, images, axis=1), axis=1, dtype=np.int32)


def _average(
    hits: np.ndarray, tried: np.ndarray, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean precision over `RECALLS` and last recall, from what was found at each right detection.

    Precision falls between right detections, so that these alone make the curve. Each is worth as
    many of the recalls as lie above the recall before it and not above its own.

    Args:
        hits, tried: (B, right detections) how many were right up to there, and how many there were.
        objects: (B, 1).
    """
    if not hits.shape[1]:
        return np.zeros(len(hits)), np.zeros(len(hits))
    at_best = hits / (tried + np.spacing(1))  # nothing may have been drawn yet
    at_best = np.maximum.accumulate(at_best[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, hits / objects, side="right")
    worth = np.diff(reached, axis=1, prepend=0)
    return (at_best * worth).sum(axis=1) / len(RECALLS), hits[:, -1] / objects[:, 0]


def interval(values: np.ndarray) -> Interval:
    """Of a measure (1 + B,), as `Scores` has it; resamples with nothing to find are left out.

    Images that are there twice, and classes that are not drawn, move AP by themselves, mostly up:
    the percentiles are those of the bias-corrected bootstrap (Efron 1981), which takes the share
    of resamples below the value for what it would be without.
    """
    if not math.isfinite(values[0]):
        return Interval(None, None, None)
    value, drawn = values[0], values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Interval(float(value), float(value), float(value))
    below = np.mean(drawn < value) + np.mean(drawn == value) / 2
    least = 1 / (2 * len(drawn))
    shift = 2 * _NORMAL.inv_cdf(float(np.clip(below, least, 1 - least)))
    ends = [_NORMAL.cdf(shift + _NORMAL.inv_cdf(x)) for x in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = np.quantile(drawn, ends)
    return Interval(float(value), float(low), float(high))


def precision_at(one: ClassMatches, iou: float) -> np.ndarray | None:
    """The curve that AP is the mean of: precision (101,) at `RECALLS`; None without objects."""
    n, objects = IOUS.index(iou), int(one.objects.sum())
    if not objects:
        return None
    counted, right = one.counted[n], one.right[n]
    tried = np.cumsum(counted)[right]
    curve = np.zeros(len(RECALLS))
    if len(tried):
        hits = np.arange(1, len(tried) + 1)
        best = np.maximum.accumulate((hits / tried)[::-1])[::-1]
        places = np.searchsorted(hits / objects, RECALLS, side="left")
        curve[places < len(best)] = best[places[places < len(best)]]
    return curve

"""Thresholds, counts of images and confusion, against counting by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.matches import match
from bckd.evaluation.operating_points import (
    OperatingPoint,
    best_point,
    confusion,
    image_counts,
    kept_rows,
)
from bckd.evaluation.scorers import Results

HERE, FAR = [10, 10, 52, 40], [120, 120, 30, 30]
NUT, SCREW = 3, 7


def found(image: int, category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    """Image 1: a nut. 2: a screw. 3: nothing. 4: a region of many nuts, and a screw far off."""
    rows = [(1, NUT, HERE, 0), (2, SCREW, HERE, 0), (4, NUT, HERE, 1), (4, SCREW, FAR, 0)]
    names = ("image_id", "category_id", "bbox", "iscrowd")
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 200, "height": 200} for n in (1, 2, 3, 4)
        ],
        "categories": [{"id": NUT, "name": "nut"}, {"id": SCREW, "name": "screw"}],
        "annotations": [
            {"id": n, **dict(zip(names, row, strict=True))} for n, row in enumerate(rows, 1)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_annotations(path)


RESULTS = [
    found(1, NUT, HERE, 0.9),  # right
    found(1, NUT, HERE, 0.5),  # found already
    found(2, NUT, HERE, 0.6),  # a screw taken for a nut
    found(3, SCREW, HERE, 0.3),  # nothing there
    found(4, NUT, [20, 20, 20, 20], 0.8),  # in the crowd region: counts for nothing
    found(4, SCREW, FAR, 0.4),  # right
]


def test_confusion_by_hand(annotations: Annotations) -> None:
    matches = match(RESULTS, annotations)
    expected = [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert confusion(RESULTS, annotations, matches, 0.1).tolist() == expected
    expected = [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert confusion(RESULTS, annotations, matches, 0.55).tolist() == expected
    assert confusion(RESULTS, annotations, matches, None).tolist() == [
        [0, 0, 1],
        [0, 0, 2],
        [0] * 3,
    ]


def test_counts_of_images_by_hand(annotations: Annotations) -> None:
    counts = image_counts(match(RESULTS, annotations), 0.35)
    assert counts.found.tolist() == [1, 0, 0, 1]
    assert counts.missed.tolist() == [0, 1, 0, 0]
    assert counts.false.tolist() == [1, 1, 0, 0]
    assert counts.errors.tolist() == [1, 2, 0, 0]
    none = image_counts(match(RESULTS, annotations), None)
    assert none.missed.tolist() == [1, 1, 0, 1] and not none.false.any()


def test_kept_rows_are_places_in_the_results(annotations: Annotations) -> None:
    matches = match(RESULTS, annotations)
    assert kept_rows(matches, 0.4) == {0: True, 1: False, 2: False, 5: True}
    assert matches.found == {0: 1, 5: 4}


def random_case(seed: int, annotations: Annotations) -> Results:
    rng = np.random.default_rng(seed)
    return [
        found(
            int(rng.integers(1, 5)),
            int(rng.choice([NUT, SCREW])),
            HERE if rng.random() < 0.6 else FAR,
            round(float(rng.random()), 1),
        )
        for _ in range(30)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_best_threshold_is_that_of_trying_all(annotations: Annotations, seed: int) -> None:
    results = random_case(seed, annotations)
    classes = match(results, annotations).classes["all"]
    for chosen in ([classes[0]], [classes[1]], classes):
        best = best_point(chosen)
        objects = sum(int(one.objects.sum()) for one in chosen)
        tried = {}
        for threshold in {row["score"] for row in results}:
            kept = [one.counted[0] & (one.scores >= threshold) for one in chosen]
            right = sum(
                int((mask & one.right[0]).sum()) for mask, one in zip(kept, chosen, strict=True)
            )
            tried[threshold] = 2 * right / (sum(int(mask.sum()) for mask in kept) + objects)
        assert best.f1 == pytest.approx(max(tried.values()))
        if best.threshold is not None:
            assert tried[best.threshold] == pytest.approx(best.f1)
            assert best.precision is not None and best.recall is not None
            f1 = 2 * best.precision * best.recall / (best.precision + best.recall)
            assert f1 == pytest.approx(best.f1)


@pytest.mark.parametrize("seed", range(3))
def test_sums_of_the_confusion_are_objects_and_detections(
    annotations: Annotations, seed: int
) -> None:
    results = random_case(seed, annotations)
    matches = match(results, annotations)
    matrix = confusion(results, annotations, matches, 0.3)
    assert matrix[:-1].sum(axis=1).tolist() == [1, 2]  # a nut and two screws
    kept = [results[row]["category_id"] for row in kept_rows(matches, 0.3)]
    assert matrix[:, :-1].sum(axis=0).tolist() == [kept.count(NUT), kept.count(SCREW)]


def test_a_perfect_detector(
    annotations: Annotations, perfect_results: Callable[[Annotations], Results]
) -> None:
    results = perfect_results(annotations)
    matches = match(results, annotations)
    point = best_point(matches.classes["all"])
    assert point == OperatingPoint(0.9, 1.0, 1.0, 1.0, 3)
    assert confusion(results, annotations, matches, 0.9).tolist() == [[1, 0, 0], [0, 2, 0], [0] * 3]


def test_nothing_right_and_nothing_to_find(annotations: Annotations) -> None:
    matches = match([found(3, NUT, HERE, 0.9)], annotations)
    assert best_point(matches.classes["all"]) == OperatingPoint(None, None, 0.0, 0.0, 3)
    assert best_point([]) == OperatingPoint(None, None, None, None, 0)

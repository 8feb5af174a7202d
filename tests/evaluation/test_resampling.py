"""AP of resampled images: COCO's own, of images that are there several times."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import score
from bckd.evaluation.matches import match
from bckd.evaluation.resampling import (
    MEASURES,
    Interval,
    interval,
    precision_at,
    resamples,
    scores_of,
)
from bckd.evaluation.scorers import Results, hotcoco_evaluation, precision_curves

IMAGES, CLASSES = 12, (3, 7, 9)


def content_of(rng: np.random.Generator) -> dict[str, Any]:
    """Boxes of all three sizes, some of them crowd regions, and images without any."""
    rows = []
    for image in range(1, IMAGES - 1):
        for _ in range(int(rng.integers(0, 6))):
            side = float(rng.choice([20, 60, 150]))
            x, y = rng.uniform(0, 240, 2).tolist()
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(CLASSES[:2])),
                    "bbox": [x, y, side, side * 0.9],
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 400, "height": 400}
            for n in range(1, IMAGES + 1)
        ],
        "categories": [{"id": key, "name": f"c{key}"} for key in CLASSES],
        "annotations": rows,
    }


def results_for(rng: np.random.Generator, content: dict[str, Any]) -> Results:
    """Near and far boxes, of the right class and of others; scores of two digits, so with ties."""
    results = []
    for row in content["annotations"]:
        for _ in range(int(rng.integers(0, 4))):
            moved = np.array(row["bbox"]) + rng.normal(0, 0.1 * row["bbox"][2], 4)
            results.append(
                {
                    "image_id": row["image_id"],
                    "category_id": int(rng.choice([row["category_id"], *CLASSES])),
                    "bbox": [*moved[:2].tolist(), *np.maximum(moved[2:], 1).tolist()],
                    "score": round(float(rng.random()), 2),
                }
            )
    return results


def read(content: dict[str, Any], folder: Path) -> Annotations:
    path = folder / "instances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_annotations(path)


def repeated(
    content: dict[str, Any], results: Results, weights: np.ndarray
) -> tuple[dict[str, Any], Results]:
    """The same with every image as often as it is drawn, copies side by side."""
    images, rows, found = [], [], []
    for image, count in zip(content["images"], weights.tolist(), strict=True):
        for copy in range(count):
            key = 100 * image["id"] + copy
            images.append({**image, "id": key, "file_name": f"{key}.png"})
            rows += [
                {**row, "image_id": key}
                for row in content["annotations"]
                if row["image_id"] == image["id"]
            ]
            found += [{**row, "image_id": key} for row in results if row["image_id"] == image["id"]]
    rows = [{**row, "id": n} for n, row in enumerate(rows, 1)]
    return {**content, "images": images, "annotations": rows}, found


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_evaluation_of_repeated_images(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = content_of(rng)
    results = results_for(rng, content)
    annotations = read(content, tmp_path)
    weights = resamples(IMAGES, 4, seed)
    found = scores_of(match(results, annotations), weights)
    for n, drawn in enumerate(weights):
        again, results_again = repeated(content, results, drawn)
        copied = read(again, tmp_path)
        expected = score(results_again, copied)
        ours = {name: found.measures[name][n] for name in MEASURES if name != "AR100"}
        theirs = {x.name: getattr(expected, x.name) for x in fields(expected)}
        assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-12, nan_ok=True)
        classes = [*expected.per_class.values()]
        assert found.per_class[n].tolist() == pytest.approx(classes, abs=1e-12, nan_ok=True)
        evaluation = hotcoco_evaluation(results_again, copied)
        evaluation.evaluate()
        evaluation.accumulate()
        recall = evaluation.eval["recall"][..., 0, -1]
        mean = float(recall[recall > -1].mean())
        assert found.measures["AR100"][n] == pytest.approx(mean, abs=1e-12)


def test_the_first_row_is_pycocotools_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    content = content_of(rng)
    results, annotations = results_for(rng, content), read(content, tmp_path)
    found = scores_of(match(results, annotations), resamples(IMAGES, 0))
    expected = score(results, annotations, scorer="pycocotools")
    assert found.measures["AP"][0] == pytest.approx(expected.AP, abs=1e-12)
    assert found.measures["APm"][0] == pytest.approx(expected.APm, abs=1e-12)


def test_a_curve_of_precision_is_cocos(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    content = content_of(rng)
    results, annotations = results_for(rng, content), read(content, tmp_path)
    curves = precision_curves(results, annotations, 100, "hotcoco")
    for n, one in enumerate(match(results, annotations).classes["all"]):
        for iou in (0.5, 0.75):
            ours = precision_at(one, iou)
            theirs = curves.precision[curves.ious.index(iou), :, n, curves.areas.index("all")]
            if ours is None:
                assert (theirs == -1).all()
            else:
                assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_perfect_detector_has_no_doubt(
    tmp_path: Path, perfect_results: Callable[[Annotations], Results]
) -> None:
    annotations = read(content_of(np.random.default_rng(0)), tmp_path)
    found = scores_of(match(perfect_results(annotations), annotations), resamples(IMAGES, 50))
    one = interval(found.measures["AP"])
    assert [one.value, one.low, one.high] == pytest.approx([1, 1, 1])


def test_a_detector_does_not_differ_from_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = content_of(rng)
    results, annotations = results_for(rng, content), read(content, tmp_path)
    weights = resamples(IMAGES, 50)
    once, again = (scores_of(match(results, annotations), weights) for _ in range(2))
    assert interval(once.measures["AP"] - again.measures["AP"]) == Interval(0.0, 0.0, 0.0)


def test_without_detections_and_without_objects(tmp_path: Path) -> None:
    content = content_of(np.random.default_rng(0))
    annotations = read(content, tmp_path)
    nothing = scores_of(match([], annotations), resamples(IMAGES, 5))
    assert interval(nothing.measures["AP"]) == Interval(0.0, 0.0, 0.0)
    empty = read({**content, "annotations": []}, tmp_path)
    found = scores_of(
        match(results_for(np.random.default_rng(1), content), empty), resamples(IMAGES, 5)
    )
    assert interval(found.measures["AP"]) == Interval(None, None, None)
    assert np.isnan(found.per_class).all()


def test_large_sets_are_resampled_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    content = content_of(rng)
    matches = match(results_for(rng, content), read(content, tmp_path))
    whole = scores_of(matches, resamples(IMAGES, 9)).per_class
    monkeypatch.setattr("bckd.evaluation.resampling._PART", 30)
    assert np.array_equal(scores_of(matches, resamples(IMAGES, 9)).per_class, whole, equal_nan=True)
    monkeypatch.setattr("bckd.evaluation.matches._IMAGES", 5)
    matches = match(results_for(np.random.default_rng(0), content), read(content, tmp_path))
    once = match(results_for(np.random.default_rng(0), content), read(content, tmp_path))
    assert np.array_equal(matches.classes["all"][0].rows, once.classes["all"][0].rows)


def test_resamples_have_all_images_once_first_and_are_the_same_each_time() -> None:
    weights = resamples(30, 20, seed=3)
    assert (weights[0] == 1).all() and (weights.sum(axis=1) == 30).all()
    assert np.array_equal(weights, resamples(30, 20, seed=3))
    assert len(np.unique(weights, axis=0)) == 21


def test_an_interval_is_moved_by_as_much_as_resamples_are() -> None:
    """Of draws around the value: the percentiles; of draws that lie higher: lower ones of them."""
    draws = np.linspace(-1, 1, 2001)
    one = interval(np.array([0.0, *draws]))
    assert one.low == pytest.approx(-0.95, abs=0.002) and one.high == pytest.approx(0.95, abs=0.002)
    moved = interval(np.array([0.0, *(draws + 0.3005)]))
    assert moved.low is not None and moved.high is not None
    assert moved.low < -0.95 + 0.3 and moved.high < 0.95 + 0.3
    below = interval(np.array([0.0, *(draws - 0.3005)]))
    assert [below.low, below.high] == pytest.approx([-moved.high, -moved.low])


def test_resamples_without_anything_to_find_are_left_out() -> None:
    assert interval(np.array([0.5, np.nan, 0.5, 0.5])) == Interval(0.5, 0.5, 0.5)
    assert interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5)
    assert interval(np.array([np.nan, 0.5])) == Interval(None, None, None)

"""AP without a tenth of the images, and the error that this says."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import score
from bckd.evaluation.leaving_out import MEASURES, error_of_images, without_tenths
from bckd.evaluation.scorers import Results


def some_results(annotations: Annotations) -> Results:
    """Most of the objects, a little off, and some boxes that are nothing."""
    rng = random.Random(0)
    found = []
    for row in annotations.content["annotations"]:
        x, y, width, height = row["bbox"]
        shift = rng.uniform(-0.3, 0.3) * width
        for category in {row["category_id"], rng.choice(annotations.category_ids)}:
            found.append(
                {
                    "image_id": row["image_id"],
                    "category_id": category,
                    "bbox": [x + shift, y, width, height],
                    "score": rng.random(),
                }
            )
    return found


def only(annotations: Annotations, ids: set[int | str], path: Path) -> Annotations:
    content = annotations.content
    kept = {
        "categories": content["categories"],
        "images": [row for row in content["images"] if row["id"] in ids],
        "annotations": [row for row in content["annotations"] if row["image_id"] in ids],
    }
    path.write_text(json.dumps(kept), encoding="utf-8")
    return read_annotations(path)


def test_each_is_the_ap_of_the_other_images(scenes_root: Path, tmp_path: Path) -> None:
    annotations = read_annotations(scenes_root / "annotations" / "instances_train.json")
    results = some_results(annotations)
    found = without_tenths(results, annotations)
    assert [len(found[name]) for name in MEASURES] == [10, 10, 10]
    for group in (0, 7):
        ids = {image.id for n, image in enumerate(annotations.images) if n % 10 != group}
        kept = [row for row in results if row["image_id"] in ids]
        whole = score(kept, only(annotations, ids, tmp_path / "some.json"))
        assert found["AP"][group] == pytest.approx(whole.AP, abs=1e-9)
        assert found["AP75"][group] == pytest.approx(whole.AP75, abs=1e-9)


def test_the_error_of_a_mean_is_the_standard_error() -> None:
    """Of a mean over as many images as groups the jackknife is exact."""
    values = np.random.default_rng(0).normal(size=10)
    without = [float(np.delete(values, n).mean()) for n in range(10)]
    assert error_of_images(without) == pytest.approx(values.std(ddof=1) / math.sqrt(10))

"""hotcoco judges as pycocotools does, to the last bit, whatever there is to judge."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import ceiling, score
from bckd.evaluation.error_analysis import analyse_errors
from bckd.evaluation.scorers import Results, precision_curves
from bckd.recipes import Scorer
from bckd.system.errors import InputError

SHARED = os.environ.get("BCKD_SHARED")
SIDE = 640
SCORERS: tuple[Scorer, ...] = get_args(Scorer)


def assert_agreement(results: Results, annotations: Annotations, max_detections: int = 100) -> None:
    ours, theirs = (
        precision_curves(results, annotations, max_detections, scorer) for scorer in SCORERS
    )
    assert np.array_equal(ours.precision, theirs.precision)
    assert (ours.ious, ours.areas) == (theirs.ious, theirs.areas)
    metrics = [score(results, annotations, max_detections, scorer) for scorer in SCORERS]
    assert repr(metrics[0]) == repr(metrics[1])


def guesses(annotations: Annotations, seed: int, each: int = 3, share: float = 0.8) -> Results:
    """Detections near a share of the objects, some of other classes, many of equal scores."""
    generator = np.random.default_rng(seed)
    content = annotations.content
    categories = [row["id"] for row in content["categories"]]
    results = []
    for row in content["annotations"]:
        if generator.random() > share:
            continue
        for _ in range(each):
            box = np.array(row["bbox"]) + generator.normal(0, 0.1, 4) * max(row["bbox"][2:])
            other = generator.random() < 0.2
            category = categories[generator.integers(len(categories))]
            results.append(
                {
                    "image_id": row["image_id"],
                    "category_id": category if other else row["category_id"],
                    "bbox": [round(float(side), 3) for side in box.clip(0)],
                    "score": round(float(generator.random()), 2),
                }
            )
    return [results[n] for n in generator.permutation(len(results))]


@pytest.fixture
def annotate(tmp_path: Path) -> Callable[..., Annotations]:
    """`annotate(seed, ...)`: boxes of every size, on the borders of COCO's areas too."""

    def make(
        seed: int,
        objects: int = 8,
        image_ids: Sequence[int | str] = (3, 1, 2, 10, 7),
        category_ids: Sequence[int] = (7, 2, 90, 5),
        crowd: float = 0.2,
    ) -> Annotations:
        generator = np.random.default_rng(seed)
        rows: list[dict[str, Any]] = []
        for image in image_ids[:-1]:  # the last one is empty, as is the last category
            for _ in range(objects):
                side = float(generator.choice([8, 32, 96, generator.uniform(2, 200)]))
                x, y = generator.uniform(0, SIDE - side, 2).round(1)
                box = [float(x), float(y), side, side]
                category = int(generator.choice(category_ids[:-1]))
                area = {"area": side * side / 2} if generator.random() < 0.3 else {}
                regions = {"iscrowd": int(generator.random() < crowd)}
                common = {"image_id": image, "category_id": category, "bbox": box}
                rows.append({**common, **area, **regions})
        content = {
            "images": [
                {"id": i, "file_name": f"{n}.png", "width": SIDE, "height": SIDE}
                for n, i in enumerate(image_ids)
            ],
            "categories": [{"id": i, "name": f"class {n}"} for n, i in enumerate(category_ids)],
            "annotations": rows,
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return read_annotations(path)

    return make


Annotate = Callable[..., Annotations]


class TestAgreement:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("max_detections", [1, 10, 100])
    def test_on_random_images(self, annotate: Annotate, seed: int, max_detections: int) -> None:
        annotations = annotate(seed)
        results = guesses(annotations, seed)
        assert 0.05 < score(results, annotations).AP < 0.95
        assert_agreement(results, annotations, max_detections)

    @pytest.mark.parametrize("max_detections", [5, 100, 300])
    def test_on_crowded_images(self, annotate: Annotate, max_detections: int) -> None:
        """More than 100 detections of an image and class, all scores in 100 places."""
        annotations = annotate(0, objects=100, image_ids=(1, 2, 3), category_ids=(1, 2))
        assert_agreement(guesses(annotations, 0), annotations, max_detections)

    @pytest.mark.parametrize("crowd", [0.0, 1.0])
    def test_with_crowd_regions_alone_and_without(self, annotate: Annotate, crowd: float) -> None:
        annotations = annotate(1, crowd=crowd)
        assert_agreement(guesses(annotations, 1), annotations)

    @pytest.mark.parametrize("objects", [0, 8])
    def test_where_nothing_is_found(self, annotate: Annotate, objects: int) -> None:
        assert_agreement([], annotate(2, objects=objects))

    def test_where_nothing_is_to_be_found(self, annotate: Annotate) -> None:
        results = guesses(annotate(3), 3)
        assert_agreement(results, annotate(3, objects=0))

    def test_where_all_scores_are_equal(self, annotate: Annotate) -> None:
        annotations = annotate(4)
        assert_agreement([{**row, "score": 0.5} for row in guesses(annotations, 4)], annotations)

    @pytest.mark.parametrize(
        "box", [[4, 4, 0, 9], [0, 0, SIDE, SIDE], [700, 9, 5, 5], [-9, 1, 20, 9]]
    )
    def test_on_odd_boxes(self, annotate: Annotate, box: list[float]) -> None:
        annotations = annotate(5)
        odd = [{**row, "bbox": box} for row in guesses(annotations, 6)]
        assert_agreement(guesses(annotations, 5) + odd, annotations)

    @pytest.mark.parametrize(
        "image_ids",
        [
            ("b", "a", "c", "10", "9"),
            (-3, 0, 5, -1, 2**53 + 1),
            (2**63, 2**63 - 1, 2**64, 2**80, 1),
        ],
    )
    def test_whatever_the_ids(self, annotate: Annotate, image_ids: Sequence[int | str]) -> None:
        annotations = annotate(6, image_ids=image_ids, category_ids=(2**64, -4, 0, 2**63))
        results = guesses(annotations, 6)
        assert_agreement(results, annotations)
        assert analyse_errors(results, annotations).best_f1 > 0.1

    def test_on_the_scenes(self, scenes_root: Path) -> None:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
        assert_agreement(guesses(annotations, 7), annotations)

    @pytest.mark.skipif(not SHARED, reason="BCKD_SHARED is not set: the folder that holds real/")
    def test_on_photographs_of_coco(self) -> None:
        path = Path(SHARED or "") / "real" / "coco128" / "annotations" / "instances_val2017.json"
        annotations = read_annotations(path)
        assert_agreement(guesses(annotations, 8), annotations)
        assert_agreement(guesses(annotations, 9, share=1.0, each=12), annotations, 10)
        assert ceiling(annotations) == pytest.approx(1.0)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("field", "value"), [("image_id", 99), ("category_id", 1)])
def test_what_is_not_annotated_is_refused(
    annotate: Annotate, scorer: Scorer, field: str, value: int
) -> None:
    annotations = annotate(0)
    results = guesses(annotations, 0)
    results[3][field] = value
    with pytest.raises(InputError, match=f"results name {field} {value}, which .*instances.json"):
        score(results, annotations, scorer=scorer)


@pytest.mark.parametrize("scorer", SCORERS)
def test_nothing_is_said(
    annotate: Annotate, scorer: Scorer, capfd: pytest.CaptureFixture[str]
) -> None:
    annotations = annotate(0)
    results = guesses(annotations, 0)
    copies = [dict(row) for row in results]
    score(results, annotations, scorer=scorer)
    score([], annotations, scorer=scorer)
    assert capfd.readouterr() == ("", "")
    assert results == copies

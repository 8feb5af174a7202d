"""Errors of known kinds, scores of known worth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import score
from bckd.evaluation.error_analysis import THRESHOLDS, TIDE_ERRORS, analyse_errors, match_detections
from bckd.evaluation.scorers import Results
from bckd.system.errors import InputError

NUT, SCREW = 3, 7
HERE, SHIFTED, FAR = [10, 10, 52, 40], [38, 10, 52, 40], [120, 120, 30, 30]
Annotate = Callable[..., Annotations]


def found(image: int, category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


@pytest.fixture
def annotate(tmp_path: Path) -> Annotate:
    """Annotations from (image, category, box, crowd or not); the file is gone afterwards."""

    def make(*objects: tuple[int, int, list[float], int], images: int = 2) -> Annotations:
        content = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "width": 200, "height": 200}
                for n in range(1, images + 1)
            ],
            "categories": [{"id": NUT, "name": "nut"}, {"id": SCREW, "name": "screw"}],
            "annotations": [
                {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
                for image, category, box, crowd in objects
            ],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        annotations = read_annotations(path)
        path.unlink()
        return replace(annotations, path=Path("in memory"))

    return make


# COCO samples precision at the 101 recalls 0, .01, ... 1; 51 of them lie at or below 1/2.
TWO_NUTS = ((1, NUT, HERE, 0), (2, NUT, HERE, 0))
ONE_EACH = ((1, NUT, HERE, 0), (2, SCREW, HERE, 0))
FIRST = found(1, NUT, HERE, 0.9)
TIDE_CASES = {
    "Miss": (TWO_NUTS, [FIRST], 50 / 101),
    "Loc": (TWO_NUTS, [FIRST, found(2, NUT, SHIFTED, 0.8)], 50 / 101),
    # the screw is found, but called a nut: AP 1 of nuts and 0 of screws
    "Cls": (ONE_EACH, [FIRST, found(2, NUT, HERE, 0.8)], 1 / 2),
    # at full recall two of three detections are right
    "Dupe": (
        TWO_NUTS,
        [FIRST, found(1, NUT, HERE, 0.8), found(2, NUT, HERE, 0.7)],
        50 / 101 / 3,
    ),
    "Bkg": (TWO_NUTS, [FIRST, found(1, NUT, FAR, 0.8), found(2, NUT, HERE, 0.7)], 50 / 101 / 3),
    # the nut's neighbour is called a screw before the screw is: AP 1 of nuts, 1/2 of screws
    "Both": (
        ONE_EACH,
        [FIRST, found(1, SCREW, SHIFTED, 0.8), found(2, SCREW, HERE, 0.7)],
        1 / 4,
    ),
}


class TestTide:
    @pytest.mark.parametrize("kind", TIDE_CASES)
    def test_each_error_costs_what_it_costs(self, annotate: Annotate, kind: str) -> None:
        objects, results, cost = TIDE_CASES[kind]
        expected = {**dict.fromkeys(TIDE_ERRORS, 0.0), kind: cost}
        assert analyse_errors(results, annotate(*objects)).tide == pytest.approx(expected)

    def test_a_box_that_is_a_little_off_is_misplaced_at_the_strict_iou(
        self, annotate: Annotate
    ) -> None:
        x, y, width, height = HERE
        off = [x + 0.25 * width, y, width, height]  # IoU .6
        analysis = analyse_errors([found(1, NUT, off, 0.9)], annotate((1, NUT, HERE, 0)))
        assert analysis.tide == pytest.approx(dict.fromkeys(TIDE_ERRORS, 0.0))
        assert analysis.tide75 == pytest.approx({**analysis.tide, "Loc": 1.0})

    def test_a_perfect_detector_has_nothing_to_gain(self, annotate: Annotate) -> None:
        results = [FIRST, found(2, SCREW, HERE, 0.8)]
        tide = analyse_errors(results, annotate(*ONE_EACH)).tide
        assert tide == pytest.approx(dict.fromkeys(TIDE_ERRORS, 0.0))


class TestCalibration:
    """Ten images with one nut each; a detection is right or on the background."""

    @pytest.fixture
    def nuts(self, annotate: Annotate) -> Annotations:
        return annotate(*((image, NUT, HERE, 0) for image in range(1, 11)), images=10)

    @pytest.mark.parametrize(("confidence", "right"), [(0.8, 8), (0.3, 3), (0.1, 1)])
    def test_a_score_that_is_the_share_of_right_ones(
        self, nuts: Annotations, confidence: float, right: int
    ) -> None:
        results = [found(n, NUT, HERE if n <= right else FAR, confidence) for n in range(1, 11)]
        analysis = analyse_errors(results, nuts)
        assert analysis.calibration_error == pytest.approx(0, abs=1e-12)
        assert analysis.reliability == (pytest.approx((confidence, right / 10, 10)),)

    def test_over_confidence(self, nuts: Annotations) -> None:
        """Four detections of .95, half right; six of .45 of which none is."""
        results = [found(n, NUT, HERE if n <= 2 else FAR, 0.95) for n in range(1, 5)]
        results += [found(n, NUT, FAR, 0.45) for n in range(5, 11)]
        analysis = analyse_errors(results, nuts)
        assert analysis.reliability == (
            pytest.approx((0.45, 0.0, 6)),
            pytest.approx((0.95, 0.5, 4)),
        )
        assert analysis.calibration_error == pytest.approx(0.4 * 0.45 + 0.6 * 0.45)

    def test_a_bin_is_a_tenth_wide(self, nuts: Annotations) -> None:
        """.22 and .28 share one, .32 has the next."""
        scores = (0.22, 0.28, 0.32)
        results = [found(n, NUT, HERE, score) for n, score in enumerate(scores, 1)]
        analysis = analyse_errors(results, nuts)
        assert analysis.reliability == (
            pytest.approx((0.25, 1.0, 2)),
            pytest.approx((0.32, 1.0, 1)),
        )

    def test_what_lies_in_a_crowd_does_not_count(self, annotate: Annotate) -> None:
        annotations = annotate((1, NUT, HERE, 0), (2, NUT, [0, 0, 100, 100], 1))
        results = [found(1, NUT, HERE, 0.97), found(2, NUT, [20, 20, 30, 30], 0.7)]
        analysis = analyse_errors(results, annotations)
        assert analysis.reliability == (pytest.approx((0.97, 1.0, 1)),)
        assert analysis.f1 == dict.fromkeys(analysis.f1, 1.0)


class TestF1:
    def test_by_hand(self, annotate: Annotate) -> None:
        """Three objects of two classes; with the score the false detections go, then the true."""
        annotations = annotate(*TWO_NUTS, (2, SCREW, FAR, 0))
        results = [
            found(2, SCREW, FAR, 0.35),  # right; not in order of the score
            found(1, NUT, HERE, 0.65),  # right
            found(1, NUT, HERE, 0.5),  # a second time, at a threshold exactly
            found(2, SCREW, HERE, 0.25),  # wrong class
            found(2, NUT, HERE, 0.15),  # right
            found(2, NUT, FAR, 0.05),  # at the lowest threshold
        ]
        analysis = analyse_errors(results, annotations)
        expected = {
            "0.05": 2 * 3 / (6 + 3),
            "0.1": 2 * 3 / (5 + 3),
            "0.15": 2 * 3 / (5 + 3),  # exactly the score of one
            "0.2": 2 * 2 / (4 + 3),
            "0.25": 2 * 2 / (4 + 3),
            "0.3": 2 * 2 / (3 + 3),
            "0.35": 2 * 2 / (3 + 3),
            "0.4": 2 * 1 / (2 + 3),
            "0.45": 2 * 1 / (2 + 3),
            "0.5": 2 * 1 / (2 + 3),
            "0.55": 2 * 1 / (1 + 3),
            "0.6": 2 * 1 / (1 + 3),
            "0.65": 2 * 1 / (1 + 3),
        }
        higher = {f"{n / 20:g}": 0.0 for n in range(14, 20)}
        assert analysis.f1 == pytest.approx(expected | higher)
        assert analysis.best_f1 == pytest.approx(6 / 8)

    def test_matches_above_a_threshold_are_those_of_the_kept_detections(
        self, annotate: Annotate
    ) -> None:
        annotations, results = random_case(annotate)
        whole = analyse_errors(results, annotations)
        for threshold in THRESHOLDS:
            key = f"{threshold:g}"
            kept = [row for row in results if row["score"] >= threshold]
            assert analyse_errors(kept, annotations).f1[key] == whole.f1[key]


def random_case(annotate: Annotate) -> tuple[Annotations, Results]:
    """Twelve images of four objects, each found about where it is, with errors of all kinds."""
    generator = np.random.default_rng(4)
    objects, results = [], []
    for image in range(1, 13):
        for _ in range(4):
            side = generator.choice([22, 60, 110])  # COCO's small, medium and large
            box = [*generator.uniform(5, 70, 2), *generator.uniform(0.9, 1.1, 2) * side]
            category = int(generator.choice([NUT, SCREW]))
            objects.append((image, category, box, int(generator.random() < 0.1)))
            for _ in range(generator.integers(0, 4)):
                moved = [side + float(generator.normal(0, 4)) for side in box]
                called = category if generator.random() < 0.8 else NUT
                results.append(found(image, called, moved, round(float(generator.random()), 2)))
    return annotate(*objects, images=12), results


def test_ap_is_that_of_pycocotools(annotate: Annotate) -> None:
    annotations, results = random_case(annotate)
    metrics = score(results, annotations)
    evaluation = match_detections(results, annotations)
    evaluation.accumulate()
    evaluation.summary_lines()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    assert 0.1 < metrics.AP < 0.9
    assert list(evaluation.stats[:6]) == [getattr(metrics, name) for name in names]


class TestNothing:
    def test_found(self, annotate: Annotate) -> None:
        analysis = analyse_errors([], annotate(*TWO_NUTS))
        assert analysis.tide == analysis.tide75 == dict.fromkeys(TIDE_ERRORS, 0.0)
        assert math.isnan(analysis.calibration_error)
        assert analysis.reliability == ()
        assert set(analysis.f1.values()) == {0.0}
        assert analysis.best_f1 == 0

    def test_to_be_found(self, annotate: Annotate) -> None:
        analysis = analyse_errors([FIRST], annotate((2, NUT, HERE, 1)))
        tide = [*analysis.tide.values(), *analysis.tide75.values()]
        values = [*tide, *analysis.f1.values(), analysis.best_f1]
        assert all(math.isnan(value) for value in values)
        assert analysis.calibration_error == pytest.approx(0.9)

    def test_is_printed_and_nothing_is_changed(
        self, annotate: Annotate, capfd: pytest.CaptureFixture[str]
    ) -> None:
        annotations, results = random_case(annotate)
        before = json.dumps([annotations.content, results])
        first, second = (analyse_errors(results, annotations) for _ in range(2))
        assert first == second
        assert json.dumps([annotations.content, results]) == before
        printed = capfd.readouterr()
        assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize(("field", "value"), [("image_id", 99), ("category_id", 5)])
def test_results_of_something_else_are_refused(annotate: Annotate, field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field} {value}"):
        analyse_errors([{**FIRST, field: value}], annotate(*TWO_NUTS))

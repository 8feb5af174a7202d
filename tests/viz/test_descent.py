"""Two copies of a student, one on each loss: where they end."""

from __future__ import annotations

import inspect

import pytest

from bckd.prediction import LoadedDetector
from bckd.system.errors import InputError
from bckd.viz.descent import FIRST_RATE, STEPS, descend, descent_rules, published_weights
from bckd.viz.protocol_figure import MAX_CLASSES, THRESHOLD, protocol_values

TEACHER, STUDENT = (2.0, -2.0), (3.0, 3.0)


def test_softmax_ends_on_the_valleys_floor_and_l_cls_at_the_teacher() -> None:
    descent = descend(TEACHER, STUDENT)
    assert len(descent.softmax) == len(descent.binary) == STEPS + 1
    assert descent.softmax[0] == descent.binary[0] == STUDENT
    floor = protocol_values(TEACHER, descent.softmax[-1])
    assert floor.softmax_loss < 1e-6 and floor.binary_loss > 0.5
    # Its gradient sums to 0, so the mean logit never moves: (5, 1) has the teacher's difference.
    assert descent.softmax[-1] == pytest.approx((5, 1), abs=1e-3)
    assert descent.binary[-1] == pytest.approx(TEACHER, abs=1e-3)


def test_the_first_step_is_rate_times_weight_times_gradient() -> None:
    descent = descend(TEACHER, STUDENT, temperature=4.0, detach_weight=True)
    values = protocol_values(TEACHER, STUDENT, temperature=4.0, detach_weight=True)
    for path, weight, gradient in (
        (descent.softmax, 2 / 8, values.softmax_gradient),
        (descent.binary, 1.0, values.binary_gradient),
    ):
        expected = [x - FIRST_RATE * weight * g for x, g in zip(STUDENT, gradient, strict=True)]
        assert path[1] == pytest.approx(expected, abs=1e-12)


def test_with_one_class_softmax_never_moves() -> None:
    descent = descend([2.0], [-2.0])
    assert set(descent.softmax) == {(-2.0,)}
    assert descent.binary[-1] == pytest.approx((2.0,), abs=1e-3)


def test_weights_are_the_published_ones() -> None:
    assert published_weights(80) == (10, 1)
    assert descent_rules()["weights"] == [(k / 8, 1) for k in range(1, MAX_CLASSES + 1)]


def test_detected_means_what_predict_shows() -> None:
    assert THRESHOLD == inspect.signature(LoadedDetector.predict).parameters["threshold"].default


def test_bad_logits() -> None:
    with pytest.raises(InputError, match="the teacher has 2 logits and the student 1"):
        descend([0.0, 1.0], [0.0])

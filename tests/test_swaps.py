"""Parts of the output exchanged between student and teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bckd.errors import InputError
from bckd.models.detector import Detector
from bckd.structures import DenseOutput
from bckd.swaps import swapped, with_part_of, with_shift

IMAGES, SIZES = torch.rand(2, 3, 64, 64), torch.tensor([[64, 64], [64, 50]])


@pytest.fixture
def pair(dense_output: Callable[..., DenseOutput]) -> tuple[DenseOutput, DenseOutput]:
    """Student and teacher."""
    return dense_output(seed=0), dense_output(seed=1)


def top(logits: torch.Tensor) -> torch.Tensor:
    return logits.amax(dim=-1, keepdim=True)


class TestSwapped:
    def test_boxes(self, pair: tuple[DenseOutput, DenseOutput]) -> None:
        student, teacher = pair
        output = swapped(student, teacher, "boxes")
        assert output.boxes is teacher.boxes
        assert output.cls_logits is student.cls_logits

    def test_level_keeps_the_students_softmax(self, pair: tuple[DenseOutput, DenseOutput]) -> None:
        student, teacher = pair
        logits = swapped(student, teacher, "level").cls_logits
        torch.testing.assert_close(top(logits), top(teacher.cls_logits))
        torch.testing.assert_close(logits.softmax(-1), student.cls_logits.softmax(-1))

    def test_pattern_takes_the_teachers_softmax(
        self, pair: tuple[DenseOutput, DenseOutput]
    ) -> None:
        student, teacher = pair
        logits = swapped(student, teacher, "pattern").cls_logits
        torch.testing.assert_close(top(logits), top(student.cls_logits))
        torch.testing.assert_close(logits.softmax(-1), teacher.cls_logits.softmax(-1))

    def test_all_three_make_the_teacher(self, pair: tuple[DenseOutput, DenseOutput]) -> None:
        student, teacher = pair
        output = student
        for part in ("level", "pattern", "boxes"):
            output = swapped(output, teacher, part)
        torch.testing.assert_close(output.cls_logits, teacher.cls_logits)
        assert torch.equal(output.boxes, teacher.boxes)

    def test_pairs_that_do_not_correspond(self, pair: tuple[DenseOutput, DenseOutput]) -> None:
        student, teacher = pair
        other = replace(teacher, cls_logits=teacher.cls_logits[..., :2])
        with pytest.raises(InputError, match="teacher has 2"):
            swapped(student, other, "level")


class TestDetectors:
    def test_its_own_part_changes_nothing(self, tiny_detector: Callable[..., Detector]) -> None:
        student = tiny_detector().eval()
        plain = student.detect(IMAGES, SIZES)
        for found, own in zip(
            with_part_of(student, student, "boxes").detect(IMAGES, SIZES), plain, strict=True
        ):
            assert torch.equal(found.boxes, own.boxes) and torch.equal(found.scores, own.scores)

    def test_a_common_shift_keeps_detections_and_their_order(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        """With the score threshold shifted too: AP cannot tell the two detectors apart."""
        student = tiny_detector().eval()
        logit = torch.tensor(student.config.postprocess.score_threshold).logit()
        moved = replace(student.config.postprocess, score_threshold=float((logit + 1.5).sigmoid()))
        found = with_shift(student, 1.5, moved).detect(IMAGES, SIZES)
        for ours, own in zip(found, student.detect(IMAGES, SIZES), strict=True):
            assert torch.equal(ours.boxes, own.boxes) and torch.equal(ours.labels, own.labels)
            torch.testing.assert_close(ours.scores.logit(), own.scores.logit() + 1.5)

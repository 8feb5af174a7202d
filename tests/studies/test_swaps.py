"""Parts of the output exchanged between student and teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.models.detector import Detector
from bckd.structures import DenseOutput
from bckd.studies.swaps import swapped, with_part_of, with_shift
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import load_detector

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[64, 64], [64, 50]])


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
    @pytest.fixture
    def student(self, tiny_teacher: Path) -> Detector:
        """One whose scores pass the threshold."""
        student = load_detector(tiny_teacher).detector
        assert all(len(found.scores) > 10 for found in student.detect(IMAGES, SIZES))
        return student

    def test_its_own_part_changes_nothing(self, student: Detector) -> None:
        altered = with_part_of(student, student, "boxes").detect(IMAGES, SIZES)
        for found, own in zip(altered, student.detect(IMAGES, SIZES), strict=True):
            assert torch.equal(found.boxes, own.boxes) and torch.equal(found.scores, own.scores)

    def test_anothers_part_does(
        self, student: Detector, tiny_detector: Callable[..., Detector]
    ) -> None:
        other = tiny_detector(seed=9)
        for part in ("pattern", "level"):
            output = with_part_of(student, other, part)(IMAGES)
            assert not torch.equal(output.cls_logits, student(IMAGES).cls_logits)
        assert torch.equal(with_part_of(student, other, "boxes")(IMAGES).boxes, other(IMAGES).boxes)

    def test_a_common_shift_keeps_detections_and_their_order(self, student: Detector) -> None:
        """With the score threshold shifted too: AP cannot tell the two detectors apart."""
        settings = student.config.postprocess
        moved = torch.tensor(settings.score_threshold).logit().add(-1.5).sigmoid().item()
        altered = with_shift(student, -1.5, replace(settings, score_threshold=moved))
        found = altered.detect(IMAGES, SIZES)
        for ours, own in zip(found, student.detect(IMAGES, SIZES), strict=True):
            assert torch.equal(ours.boxes, own.boxes) and torch.equal(ours.labels, own.labels)
            torch.testing.assert_close(ours.scores.logit(), own.scores.logit() - 1.5)

"""`distil`: one call, with outputs of any two detectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bckd.correspondence import choose_levels
from bckd.geometry import distances_to_boxes, grid, with_anchors
from bckd.losses import binary_classification, distil, iou_localisation, softmax_classification
from bckd.losses.distillation import check_comparable
from bckd.losses.options import LossOptions
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError


@pytest.fixture
def pair(dense_output: Callable[..., DenseOutput]) -> tuple[DenseOutput, DenseOutput, Assignment]:
    """Student, teacher, and an assignment with positives on both levels."""
    student, teacher = dense_output(seed=0), dense_output(seed=1)
    positive = torch.zeros(student.cls_logits.shape[:2], dtype=torch.bool)
    positive[0, 3] = positive[0, 22] = positive[1, 7] = positive[1, 25] = True
    return student, teacher, Assignment.for_distillation(positive)


def points(seed: int, strides: tuple[int, ...], classes: int = 3) -> DenseOutput:
    """A detector's output on an image of 64 x 96."""
    generator = torch.Generator().manual_seed(seed)
    places = grid([(64 // stride, 96 // stride) for stride in strides], strides)
    count = len(places.centres)
    sides = 20 * torch.rand(1, count, 4, generator=generator)
    boxes = distances_to_boxes(places.centres.expand(1, -1, -1), sides)
    logits = torch.randn(1, count, classes, generator=generator, requires_grad=True)
    return DenseOutput(logits, boxes, places)


def test_the_weighted_sum_of_bckds_terms(
    pair: tuple[DenseOutput, DenseOutput, Assignment],
) -> None:
    found = distil(*pair)
    assert torch.isclose(found, binary_classification(*pair) + 4 * iou_localisation(*pair))
    assert found > 0


def test_other_terms_weights_and_options(
    pair: tuple[DenseOutput, DenseOutput, Assignment],
) -> None:
    options = replace(LossOptions(), softmax_temperature=3.0, iou_kind="iou")
    found = distil(*pair, {"softmax": 2.0, "iou": 0.5, "binary": 0.0}, options)
    expected = 2 * softmax_classification(*pair, temperature=3.0)
    assert torch.isclose(found, expected + 0.5 * iou_localisation(*pair, kind="iou"))
    assert distil(*pair, {}) == 0


def test_the_student_learns_until_it_is_the_teacher() -> None:
    student, teacher = points(0, (8, 16)), points(1, (8, 16))
    assignment = Assignment.for_distillation(torch.ones(1, student.boxes.shape[1]) > 0)
    logits = student.cls_logits
    optimizer = torch.optim.SGD([logits], lr=300.0)
    for _ in range(300):
        optimizer.zero_grad()
        distil(student, teacher, assignment, {"binary": 1.0}).backward()
        optimizer.step()
    gap = (logits.sigmoid() - teacher.cls_logits.sigmoid()).abs().max()
    assert gap < 0.15 and teacher.cls_logits.grad is None


def test_levels_that_the_student_has_not_are_left_out() -> None:
    student, teacher = points(0, (8, 16)), points(1, (8, 16, 32))
    assignment = Assignment.for_distillation(torch.ones(1, student.boxes.shape[1]) > 0)
    expected = distil(student, choose_levels(teacher, (8, 16)), assignment)
    assert distil(student, teacher, assignment) == expected
    with pytest.raises(InputError, match="student has a level of stride 32 and the teacher none"):
        distil(teacher, student, assignment)


def test_anchors_of_a_cell_speak_with_one_voice() -> None:
    student = points(0, (8, 16))
    several = with_anchors(grid([(8, 12), (4, 6)], (8, 16)), [(2.0, 4.0), (4.0, 2.0)])
    count = len(several.centres)
    logits = torch.randn(1, count, 3, generator=torch.Generator().manual_seed(1))
    teacher = DenseOutput(logits, torch.rand(1, count, 4).cumsum(-1) * 30, several)
    assignment = Assignment.for_distillation(torch.ones(1, student.boxes.shape[1]) > 0)
    assert distil(student, teacher, assignment).isfinite()
    with pytest.raises(InputError, match=r"8: 8x12, .* against 8: 8x12 with 2 anchors a cell"):
        check_comparable(student, teacher)


def test_what_does_not_correspond() -> None:
    student = points(0, (8, 16))
    assignment = Assignment.for_distillation(torch.ones(1, student.boxes.shape[1]) > 0)
    with pytest.raises(InputError, match="student has 3 classes, teacher has 4"):
        distil(student, points(1, (8, 16), classes=4), assignment)
    with pytest.raises(
        InputError, match="term 'knowledge' is unknown; expected one of .*binary, iou"
    ):
        distil(student, student, assignment, {"knowledge": 1.0})
    other = Assignment.for_distillation(torch.ones(1, 7) > 0)
    expected = r"the assignment is of 1 images and 7 locations; expected the student's 1 and 120"
    with pytest.raises(InputError, match=expected):
        distil(student, student, other)
    with pytest.raises(InputError, match=r"no level has a stride of 64; these are \[8, 16\]"):
        choose_levels(student, (8, 64))


def test_an_assignment_of_positives_alone() -> None:
    positive = torch.tensor([[True, False, True], [False, False, False]])
    assignment = Assignment.for_distillation(positive)
    assert assignment.valid.all() and assignment.num_positives == 3  # an image counts once
    valid = torch.tensor([[True, True, True], [True, False, False]])
    assert torch.equal(Assignment.for_distillation(positive, valid).valid, valid)

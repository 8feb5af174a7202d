"""DIST, and YOLOv6's softmax over scores: by loops, and what they do not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bckd.losses.dist import relations
from bckd.losses.distillation import binary_classification
from bckd.losses.yolov6 import softmax_of_scores
from bckd.structures import Assignment, DenseOutput

Pair = tuple[DenseOutput, DenseOutput, Assignment]


@pytest.fixture
def pair(dense_output: Callable[..., DenseOutput]) -> Pair:
    student, teacher = dense_output(seed=0), dense_output(seed=1)
    positive = torch.zeros(student.cls_logits.shape[:2], dtype=torch.bool)
    positive[0, 3] = positive[0, 22] = positive[1, 7] = True
    valid = torch.ones_like(positive)
    valid[1, :5] = False
    return student, teacher, Assignment.for_distillation(positive, valid)


def with_logits(output: DenseOutput, logits: torch.Tensor) -> DenseOutput:
    return replace(output, cls_logits=logits)


class TestRelations:
    def test_by_hand(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        a, b = (x.cls_logits.detach().sigmoid() for x in (student, teacher))
        rows = [torch.corrcoef(torch.stack([a[i], b[i]]))[0, 1] for i in ((0, 3), (0, 22), (1, 7))]
        a, b = (x[assignment.valid] for x in (a, b))
        columns = [torch.corrcoef(torch.stack([a[:, k], b[:, k]]))[0, 1] for k in range(3)]
        expected = sum(1 - float(r) for r in rows) / 3 + sum(1 - float(r) for r in columns) / 3
        assert relations(*pair).item() == pytest.approx(expected, rel=1e-4)

    def test_scale_and_level_of_all_scores_are_not_seen(self, pair: Pair) -> None:
        _, teacher, assignment = pair
        lower = with_logits(teacher, (teacher.scores * 0.5 + 0.1).logit())
        assert relations(lower, teacher, assignment).item() == pytest.approx(0, abs=1e-5)
        assert binary_classification(lower, teacher, assignment) > 0.1

    def test_scores_that_are_all_equal_have_a_finite_gradient(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        flat = torch.zeros_like(student.cls_logits).requires_grad_()
        relations(with_logits(student, flat), teacher, assignment).backward()
        assert flat.grad is not None and flat.grad.isfinite().all()

    def test_one_class_has_columns_alone(self, dense_output: Callable[..., DenseOutput]) -> None:
        student, teacher = (dense_output(seed=n, num_classes=1) for n in (0, 1))
        positive = torch.ones(student.cls_logits.shape[:2], dtype=torch.bool)
        a, b = (x.scores.detach().flatten() for x in (student, teacher))
        expected = 1 - torch.corrcoef(torch.stack([a, b]))[0, 1].item()
        found = relations(student, teacher, Assignment.for_distillation(positive))
        assert found.item() == pytest.approx(expected, rel=1e-4)


class TestSoftmaxOfScores:
    def test_by_hand(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        expected = 0.0
        for image, location in assignment.valid.nonzero().tolist():
            p, q = (x.scores[image, location].tolist() for x in (student, teacher))
            exp_p, exp_q = ([math.exp(x / 20) for x in row] for row in (p, q))
            for x, y in zip(exp_p, exp_q, strict=True):
                a, b = x / sum(exp_p), y / sum(exp_q)
                expected += 400 * b * math.log(b / a)
        assert softmax_of_scores(*pair).item() == pytest.approx(expected, rel=1e-3)

    def test_it_is_half_a_variance_over_classes(self, pair: Pair) -> None:
        """At T = 20 nothing of a softmax is left."""
        student, teacher, assignment = pair
        gap = (teacher.scores - student.scores)[assignment.valid]
        variance = gap.var(dim=1, unbiased=False).sum().item() / 2
        assert softmax_of_scores(*pair).item() == pytest.approx(variance, rel=0.02)

    def test_a_constant_on_all_scores_of_a_location_is_not_seen(self, pair: Pair) -> None:
        """A teacher that is sure of an object, and a student that sees none: nothing to learn."""
        _, teacher, assignment = pair
        sure = with_logits(teacher, torch.full_like(teacher.cls_logits, 3.0))
        blind = with_logits(teacher, torch.full_like(teacher.cls_logits, -5.0).requires_grad_())
        loss = softmax_of_scores(blind, sure, assignment)
        (gradient,) = torch.autograd.grad(loss, blind.cls_logits)
        assert loss.item() == pytest.approx(0, abs=1e-4) and gradient.abs().max() < 1e-4
        binary = binary_classification(blind, sure, assignment)
        (theirs,) = torch.autograd.grad(binary, blind.cls_logits)
        assert binary > 10 and theirs[assignment.valid].abs().min() > 0.1

    def test_it_grows_with_the_batch(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        doubled = [with_logits(x, torch.cat([x.cls_logits] * 2)) for x in (student, teacher)]
        doubled = [replace(x, boxes=torch.cat([x.boxes] * 2)) for x in doubled]
        masks = [torch.cat([x] * 2) for x in (assignment.positive, assignment.valid)]
        two = softmax_of_scores(*doubled, Assignment.for_distillation(*masks))
        assert two.item() == pytest.approx(2 * softmax_of_scores(*pair).item(), rel=1e-4)

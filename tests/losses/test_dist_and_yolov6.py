"""DIST, and YOLOv6's softmax over scores: by loops, and what they do not see."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bckd.geometry import grid, with_anchors
from bckd.losses import binary_classification
from bckd.losses.dist import relations
from bckd.losses.yolov6 import TEMPERATURE, softmax_of_scores
from bckd.structures import Assignment, DenseOutput
from tests.system.test_devices import NoCopies

Make = Callable[..., Any]
Pair = tuple[DenseOutput, DenseOutput, Assignment]
each_term = pytest.mark.parametrize("term", [relations, softmax_of_scores])


@pytest.fixture
def pair(dense_output: Make) -> Pair:
    """Two images of two levels, the second with locations outside it, without an object."""
    student, teacher = dense_output(seed=0), dense_output(seed=1)
    valid = torch.ones(2, 26, dtype=torch.bool)
    valid[1, 12:20] = valid[1, 24:] = False
    return student, teacher, Assignment.for_distillation(torch.zeros_like(valid), valid)


def with_logits(output: DenseOutput, logits: Tensor) -> DenseOutput:
    return replace(output, cls_logits=logits)


def twice(pair: Pair) -> Pair:
    *outputs, assignment = pair
    doubled = [
        replace(x, cls_logits=torch.cat([x.cls_logits] * 2), boxes=torch.cat([x.boxes] * 2))
        for x in outputs
    ]
    masks = (torch.cat([x] * 2) for x in (assignment.positive, assignment.valid))
    return (*doubled, Assignment.for_distillation(*masks))


def correlation_by_loops(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    sizes = [sum((x - m) ** 2 for x in v) for v, m in ((a, mean_a), (b, mean_b))]
    return both / math.sqrt(sizes[0] * sizes[1])


@each_term
class TestBoth:
    def test_a_batch_twice_over_has_its_value(self, term: Make, pair: Pair) -> None:
        torch.testing.assert_close(term(*twice(pair)), term(*pair))

    def test_the_student_learns_and_the_teacher_does_not(self, term: Make, pair: Pair) -> None:
        student, teacher, assignment = pair
        term(*pair).backward()
        gradient = student.cls_logits.grad
        assert teacher.cls_logits.grad is None
        assert gradient[assignment.valid].abs().amin() > 0
        assert not gradient[~assignment.valid].any()

    def test_nothing_is_learnt_of_oneself(self, term: Make, pair: Pair) -> None:
        student, _, assignment = pair
        loss = term(student, student, assignment)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-5)
        assert student.cls_logits.grad.abs().max() < 1e-5

    def test_the_host_never_waits_for_a_gpu(self, term: Make) -> None:
        locations = grid([(4, 5), (2, 3)], [8, 16])
        with warnings.catch_warnings(), FakeTensorMode(), torch.device("cuda"):
            warnings.filterwarnings("ignore", "CUDA is not available")
            said = DenseOutput(torch.zeros(2, 26, 3), torch.zeros(2, 26, 4), locations)
            assigned = Assignment.for_distillation(torch.zeros(2, 26, dtype=torch.bool))
            with NoCopies():
                assert term(said, said, assigned).device.type == "cuda"


class TestRelations:
    def test_by_loops(self, pair: Pair) -> None:
        """Level by level: a row of each cell inside its image, a column of each class."""
        student, teacher, assignment = pair
        expected = 0.0
        for level in (slice(0, 20), slice(20, 26)):
            inside = assignment.valid[:, level]
            a, b = (x.scores.detach()[:, level][inside].tolist() for x in (student, teacher))
            rows = [1 - correlation_by_loops(*row) for row in zip(a, b, strict=True)]
            columns = [
                1 - correlation_by_loops([row[k] for row in a], [row[k] for row in b])
                for k in range(3)
            ]
            expected += sum(rows) / len(rows) + sum(columns) / 3
        assert relations(*pair).item() == pytest.approx(expected, rel=1e-4)

    def test_a_row_has_the_scores_of_all_anchors_of_a_cell(self, dense_output: Make) -> None:
        """Of 6 cells with 2 anchors of 3 classes: 6 rows of 6."""
        locations = with_anchors(grid([(2, 3)], [8]), [(1.0, 2.0), (2.0, 1.0)])
        outputs = [
            replace(dense_output(seed=n, shapes=[(3, 4)], strides=[8]), locations=locations)
            for n in (0, 1)
        ]
        valid = torch.ones(2, 12, dtype=torch.bool)
        found = relations(*outputs, Assignment.for_distillation(torch.zeros_like(valid), valid))
        wide = grid([(2, 3)], [8])
        cells = [
            replace(
                x,
                cls_logits=x.cls_logits.detach().reshape(2, 6, 6),
                boxes=torch.zeros(2, 6, 4),
                locations=wide,
            )
            for x in outputs
        ]
        mask = torch.ones(2, 6, dtype=torch.bool)
        expected = relations(*cells, Assignment.for_distillation(torch.zeros_like(mask), mask))
        torch.testing.assert_close(found.detach(), expected)

    def test_the_scale_and_the_level_of_all_scores_are_not_seen(self, pair: Pair) -> None:
        _, teacher, assignment = pair
        lower = with_logits(teacher, (teacher.scores * 0.5 + 0.1).logit())
        assert relations(lower, teacher, assignment).item() == pytest.approx(0, abs=1e-4)
        assert binary_classification(lower, teacher, assignment, gate_levels=False) > 0.1

    def test_scores_that_do_not_differ_have_a_finite_gradient(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        flat = torch.zeros_like(student.cls_logits).requires_grad_()
        relations(with_logits(student, flat), teacher, assignment).backward()
        assert flat.grad.isfinite().all()

    def test_of_one_class_the_cells_say_nothing(self, dense_output: Make) -> None:
        """The first part is 1 a level, the second as ever."""
        student, teacher = (dense_output(seed=n, num_classes=1) for n in (0, 1))
        a, b = (x.scores.detach()[..., 0] for x in (student, teacher))
        parts = [
            2 - correlation_by_loops(a[:, x].flatten().tolist(), b[:, x].flatten().tolist())
            for x in (slice(0, 20), slice(20, 26))
        ]
        assigned = Assignment.for_distillation(torch.zeros(2, 26, dtype=torch.bool))
        found = relations(student, teacher, assigned)
        assert found.item() == pytest.approx(sum(parts), rel=1e-4)


class TestSoftmaxOfScores:
    def test_by_loops(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        expected = 0.0
        for image, location in assignment.valid.nonzero().tolist():
            ours, theirs = (x.scores[image, location].tolist() for x in (student, teacher))
            a, b = ([math.exp(p / 20) for p in row] for row in (ours, theirs))
            pairs = zip(a, b, strict=True)
            expected += sum(
                400 * y / sum(b) * math.log(y / sum(b) / (x / sum(a))) for x, y in pairs
            )
        assert softmax_of_scores(*pair).item() == pytest.approx(expected / 2, rel=1e-3)

    def test_small_gaps_are_not_lost_in_rounding(self) -> None:
        """Beside the same in double precision; the plain formula is off by many times the value."""
        generator = torch.Generator().manual_seed(0)
        theirs = torch.rand(1, 40, 80, generator=generator) * 0.02 + 0.01
        ours = theirs + 1e-3 * torch.randn(1, 40, 80, generator=generator)
        locations = grid([(4, 10)], [8])
        assigned = Assignment.for_distillation(torch.ones(1, 40, dtype=torch.bool))
        values = []
        for kind in (torch.float32, torch.float64):
            pair = [
                DenseOutput(x.logit().to(kind), torch.zeros(1, 40, 4), locations)
                for x in (ours, theirs)
            ]
            values.append(softmax_of_scores(*pair, assigned).item())
        assert values[0] == pytest.approx(values[1], rel=0.02) and values[0] > 0


class TestAntiExample:
    """Why no detector that scores by sigmoids should be distilled so."""

    def test_its_distributions_are_nearly_uniform(self) -> None:
        """The surest score there can be beside 79 classes that are surely absent."""
        scores = torch.zeros(80)
        scores[0] = 1
        probabilities = (scores / TEMPERATURE).softmax(dim=0)
        assert probabilities[0] / probabilities[1] == pytest.approx(1.0513, abs=1e-4)
        assert probabilities[0] < 0.0132  # of 80 classes one has .0125 on average

    def test_it_is_half_a_variance_of_the_gap(self, pair: Pair) -> None:
        """Nothing of a softmax is left: it is a squared gap of scores, but for their mean."""
        student, teacher, assignment = pair
        gap = (student.scores - teacher.scores).detach()
        halves = gap.var(dim=-1, correction=0) / 2
        expected = (halves * assignment.valid).sum() / 2
        assert softmax_of_scores(*pair).item() == pytest.approx(expected.item(), rel=0.03)

    def test_a_constant_on_all_scores_of_a_location_is_not_seen(self, pair: Pair) -> None:
        _, teacher, assignment = pair
        scores = 0.1 + 0.3 * teacher.scores.detach()
        low, high = (with_logits(teacher, (scores + x).logit()) for x in (0, 0.5))
        assert softmax_of_scores(low, high, assignment).item() == pytest.approx(0, abs=1e-5)
        assert binary_classification(low, high, assignment, gate_levels=False) > 1

    def test_one_class_teaches_nothing(self, dense_output: Make) -> None:
        student, teacher = (dense_output(seed=n, num_classes=1) for n in (0, 1))
        assigned = Assignment.for_distillation(torch.zeros(2, 26, dtype=torch.bool))
        softmax_of_scores(student, teacher, assigned).backward()
        assert not student.cls_logits.grad.any()

    def test_where_the_student_is_sure_and_wrong_it_hardly_pulls(self) -> None:
        """An object of 80 classes, which the teacher scores .9 and the student .01.

        The slopes of the one logit, by hand with p = .01, g = .89:
        p (1 - p) g (1 - 1/80) / 80 = 1.1e-4, and BCKD's g^2 + p (1 - p) BCE = .83.
        """
        locations = grid([(1, 1)], [8])
        logits = torch.full((1, 1, 80), -4.595)  # scores of .01
        sure = logits.clone()
        sure[..., 0] = 2.197  # .9
        blind = logits.clone().requires_grad_()
        student, teacher = (DenseOutput(x, torch.zeros(1, 1, 4), locations) for x in (blind, sure))
        assigned = Assignment.for_distillation(torch.ones(1, 1, dtype=torch.bool))
        slopes = []
        for term in (softmax_of_scores, binary_classification):
            (gradient,) = torch.autograd.grad(term(student, teacher, assigned), blind)
            slopes.append(-gradient[0, 0, 0].item())
        assert slopes[0] == pytest.approx(1.1e-4, rel=0.05)
        assert slopes[1] == pytest.approx(0.89**2 + 0.0099 * (0.9 * 4.605 + 0.1 * 0.01), rel=0.01)
        assert slopes[1] > 7000 * slopes[0]

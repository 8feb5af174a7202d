from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from bckd.geometry import box_similarity, grid
from bckd.losses import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.losses.distillation import check_comparable
from bckd.structures import Assignment, DenseOutput
from bckd.system.errors import InputError

Term = Callable[..., Tensor]
Make = Callable[..., Any]  # a maker of inputs from conftest.py
FINE = 20  # locations of the finer level; six more follow on the coarser


def region_ld(student: DenseOutput, teacher: DenseOutput, assignment: Assignment) -> Tensor:
    return localisation_distribution(student, teacher, assignment, places="region")


TERMS = {
    "binary": binary_classification,
    "iou": iou_localisation,
    "softmax": softmax_classification,
    "ld": localisation_distribution,
    "ld region": region_ld,
}
each_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS.keys())


class Case(NamedTuple):
    """The arguments of a term."""

    student: DenseOutput
    teacher: DenseOutput
    assignment: Assignment


@pytest.fixture
def case(dense_output: Make, assignment_of: Make) -> Case:
    """Two random outputs and positives on both levels of both images."""
    student, teacher = dense_output(seed=1), dense_output(seed=2)
    region = torch.rand(2, 26, generator=torch.Generator().manual_seed(3))
    positives = {(0, 3): 1, (0, 7): 0, (0, 22): 2, (1, 11): 2, (1, 24): 0}
    return Case(student, teacher, assignment_of(student, positives, region))


def twin(output: DenseOutput, output_of: Make, shift: Tensor | float = 0.0) -> DenseOutput:
    """An equal output of its own leaves, `shift` added to all class logits."""
    return output_of(output.cls_logits + shift, output.box_logits, output.locations)


def gradients(loss: Tensor, output: DenseOutput) -> tuple[Tensor, Tensor]:
    """Gradient on the class and on the box logits; zeros where the loss does not depend."""
    leaves = [output.cls_logits, output.box_logits]
    return torch.autograd.grad(
        loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True
    )


class TestEveryTerm:
    @each_term
    def test_is_positive_and_pulls_the_student_towards_the_teacher(
        self, term: Term, case: Case, output_of: Make
    ) -> None:
        loss = term(*case)
        cls_gradient, box_gradient = gradients(loss, case.student)
        assert loss > 0 and loss.shape == ()
        step = output_of(
            case.student.cls_logits - 1e-2 * cls_gradient,
            case.student.box_logits - 1e-2 * box_gradient,
            case.student.locations,
        )
        assert term(step, case.teacher, case.assignment) < loss

    @each_term
    def test_is_zero_with_zero_gradient_at_equality(
        self, term: Term, case: Case, output_of: Make
    ) -> None:
        loss = term(case.student, twin(case.student, output_of), case.assignment)
        assert loss.item() == pytest.approx(0, abs=1e-4)
        for gradient in gradients(loss, case.student):
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)

    @each_term
    def test_gives_the_teacher_no_gradient(self, term: Term, case: Case) -> None:
        loss = term(*case)
        with pytest.raises(RuntimeError, match="not have been used in the graph"):
            torch.autograd.grad(loss, [case.teacher.cls_logits, case.teacher.box_logits])
        loss.backward()
        assert case.teacher.cls_logits.grad is None and case.teacher.box_logits.grad is None

    @each_term
    def test_moves_only_what_it_distils(self, term: Term, case: Case) -> None:
        cls_gradient, box_gradient = gradients(term(*case), case.student)
        on_classes = term in (binary_classification, softmax_classification)
        assert bool(cls_gradient.any()) == on_classes
        assert bool(box_gradient.any()) != on_classes

    @each_term
    def test_is_a_sum_over_images(self, term: Term, case: Case) -> None:
        def of_image(n: int) -> Tensor:
            here, full = (torch.arange(2) == n)[:, None], case.assignment
            alone = replace(
                full,
                valid=full.valid & here,
                positive=full.positive & here,
                localisation_region=full.localisation_region * here,
            )
            return term(case.student, case.teacher, alone)

        torch.testing.assert_close(term(*case), of_image(0) + of_image(1))

    @each_term
    def test_refuses_what_cannot_be_compared(
        self, term: Term, case: Case, dense_output: Make
    ) -> None:
        with pytest.raises(InputError, match="student has 3 classes, teacher has 5"):
            term(case.student, dense_output(num_classes=5), case.assignment)


class TestByHand:
    """One image, one level of 1 x 2 locations, two classes, the first location positive."""

    student_logits = [[0.4, -1.0], [2.0, 0.3]]
    teacher_logits = [[1.5, -2.0], [-0.7, 0.1]]

    @pytest.fixture
    def case(self, output_of: Make, assignment_of: Make) -> Case:
        generator = torch.Generator().manual_seed(0)
        locations = grid([(1, 2)], [8])
        student, teacher = (
            output_of(torch.tensor([rows]), torch.randn(1, 2, 4, 3, generator=generator), locations)
            for rows in (self.student_logits, self.teacher_logits)
        )
        region = torch.tensor([[0.3, 0.8]])
        return Case(student, teacher, assignment_of(student, {(0, 0): 1}, region))

    def scores(self) -> tuple[list[list[float]], list[list[float]]]:
        return tuple(
            [[1 / (1 + math.exp(-x)) for x in row] for row in rows]
            for rows in (self.student_logits, self.teacher_logits)
        )

    @pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
    @pytest.mark.parametrize("count", [1, 3])
    def test_binary_classification(self, case: Case, beta: float, count: int) -> None:
        assignment = replace(case.assignment, num_positives=torch.tensor(float(count)))
        expected = sum(
            abs(t - s) ** beta * -(t * math.log(s) + (1 - t) * math.log(1 - s))
            for row_s, row_t in zip(*self.scores(), strict=True)
            for s, t in zip(row_s, row_t, strict=True)
        )
        found = binary_classification(case.student, case.teacher, assignment, beta=beta)
        assert found.item() == pytest.approx(expected / count, rel=1e-5)

    @pytest.mark.parametrize(
        ("places", "rows"), [("positives", slice(1)), ("background", slice(1, None))]
    )
    def test_binary_classification_at_some_places(
        self, case: Case, places: str, rows: slice
    ) -> None:
        expected = sum(
            abs(t - s) * -(t * math.log(s) + (1 - t) * math.log(1 - s))
            for row_s, row_t in list(zip(*self.scores(), strict=True))[rows]
            for s, t in zip(row_s, row_t, strict=True)
        )
        found = binary_classification(*case, places=places)
        assert found.item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("detach_weight", [False, True])
    def test_gradient_of_binary_classification(self, case: Case, detach_weight: bool) -> None:
        expected = []
        for row_s, row_t in zip(*self.scores(), strict=True):
            for s, t in zip(row_s, row_t, strict=True):
                through_bce = abs(t - s) * (s - t)
                bce = -(t * math.log(s) + (1 - t) * math.log(1 - s))
                through_weight = math.copysign(1, s - t) * s * (1 - s) * bce
                expected.append(through_bce + (0 if detach_weight else through_weight))
        loss = binary_classification(*case, detach_weight=detach_weight)
        gradient, _ = gradients(loss, case.student)
        assert gradient.flatten().tolist() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
    def test_iou_localisation(self, case: Case, kind: str) -> None:
        similarity = box_similarity(case.student.boxes, case.teacher.boxes, kind)[0].tolist()
        expected = sum(
            max(abs(t - s) for s, t in zip(row_s, row_t, strict=True)) * (1 - u)
            for row_s, row_t, u in zip(*self.scores(), similarity, strict=True)
        )
        found = iou_localisation(*case, kind=kind)
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_iou_localisation_weighted_by_the_teacher(self, case: Case) -> None:
        similarity = box_similarity(case.student.boxes, case.teacher.boxes, "giou")[0].tolist()
        teacher_scores = self.scores()[1]
        expected = sum(
            max(row) * (1 - u) for row, u in zip(teacher_scores, similarity, strict=True)
        )
        found = iou_localisation(*case, weighting="teacher")
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_the_official_iou_kind_is_giou(self, case: Case) -> None:
        giou = iou_localisation(*case, kind="giou")
        assert iou_localisation(*case) == giou
        assert iou_localisation(*case, kind="iou") != giou

    @pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
    @pytest.mark.parametrize("places", ["all", "positives", "background"])
    def test_softmax_classification(self, case: Case, temperature: float, places: str) -> None:
        expected = 0.0
        rows = list(zip(self.student_logits, self.teacher_logits, strict=True))
        kept = {"all": rows, "positives": rows[:1], "background": rows[1:]}
        for row_s, row_t in kept[places]:
            p_s, p_t = (
                (torch.tensor(row) / temperature).softmax(0).tolist() for row in (row_s, row_t)
            )
            divergence = sum(t * math.log(t / s) for s, t in zip(p_s, p_t, strict=True))
            expected += temperature**2 * divergence / len(row_s)
        found = softmax_classification(*case, temperature=temperature, places=places)
        assert found.item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("places", ["positives", "region"])
    def test_localisation_distribution(self, case: Case, places: str) -> None:
        temperature, bins = 4.0, 3
        sides = []
        for location in range(2):
            total = 0.0
            for side in range(4):
                p_s, p_t = (
                    (o.box_logits[0, location, side] / temperature).softmax(0).tolist()
                    for o in (case.student, case.teacher)
                )
                total += sum(t * math.log(t / s) for s, t in zip(p_s, p_t, strict=True))
            sides.append(temperature**2 * total / bins)
        top_score = max(self.scores()[0][0])
        expected = {
            "positives": (top_score + 2e-4) * sides[0] / 4,
            "region": (0.3 * sides[0] + 0.8 * sides[1]) / 16,
        }
        found = localisation_distribution(*case, temperature=temperature, places=places)
        assert found.item() == pytest.approx(expected[places], rel=1e-4)


class TestProtocols:
    """What the paper is about: softmax does not see what sigmoid scores mean."""

    @pytest.mark.parametrize("shift", [-3.0, 0.5, 4.0])
    def test_softmax_does_not_see_a_shift_of_all_logits(
        self, case: Case, output_of: Make, shift: float
    ) -> None:
        shifted = twin(case.teacher, output_of, shift)
        loss = softmax_classification(shifted, case.teacher, case.assignment)
        assert loss.item() == pytest.approx(0, abs=1e-4)
        torch.testing.assert_close(
            gradients(loss, shifted)[0], torch.zeros(2, 26, 3), atol=1e-5, rtol=0
        )
        binary = binary_classification(shifted, case.teacher, case.assignment)
        assert binary > 0.01
        direction = math.copysign(1, shift)
        assert (direction * gradients(binary, shifted)[0] > 0).all()

    def test_softmax_of_one_class_is_exactly_zero(
        self, dense_output: Make, assignment_of: Make
    ) -> None:
        student, teacher = (dense_output(seed, num_classes=1) for seed in (4, 5))
        assignment = assignment_of(student, {(0, 3): 0, (1, 22): 0})
        loss = softmax_classification(student, teacher, assignment)
        assert loss.item() == 0.0
        assert not gradients(loss, student)[0].any()
        binary = binary_classification(student, teacher, assignment)
        assert binary > 0 and (gradients(binary, student)[0] != 0).all()

    @pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
    def test_binary_is_least_at_equality(self, case: Case, output_of: Make, beta: float) -> None:
        def loss(shift: Tensor | float) -> float:
            student = twin(case.teacher, output_of, shift)
            return binary_classification(*case._replace(student=student), beta=beta).item()

        generator = torch.Generator().manual_seed(6)
        least = loss(0.0)
        for size in (0.05, 0.5, 3.0):
            for _ in range(5):
                assert loss(size * torch.randn(2, 26, 3, generator=generator)) > least

    @pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0])
    def test_binary_has_no_gradient_at_equality_for_any_positive_beta(
        self, case: Case, output_of: Make, beta: float
    ) -> None:
        loss = binary_classification(
            case.student, twin(case.student, output_of), case.assignment, beta=beta
        )
        assert loss.item() == 0.0
        assert torch.equal(gradients(loss, case.student)[0], torch.zeros(2, 26, 3))

    def test_detaching_the_weight_changes_the_gradient_alone(self, case: Case) -> None:
        free = binary_classification(*case)
        detached = binary_classification(*case, detach_weight=True)
        assert free == detached
        assert not torch.allclose(
            gradients(free, case.student)[0], gradients(detached, case.student)[0]
        )


GATED = {name: TERMS[name] for name in ("binary", "iou", "softmax")}
each_gated_term = pytest.mark.parametrize("term", GATED.values(), ids=GATED.keys())


class TestPlaces:
    @each_gated_term
    def test_a_level_without_positives_is_left_out(
        self, term: Term, case: Case, assignment_of: Make
    ) -> None:
        case = case._replace(assignment=assignment_of(case.student, {(0, 3): 1}))
        touched = places_of(term(*case), case.student)
        assert touched[:, :FINE].all(), "the level is open for the image without positives, too"
        assert not touched[:, FINE:].any()

    @each_gated_term
    def test_without_gating_all_valid_locations_count(
        self, term: Term, case: Case, assignment_of: Make
    ) -> None:
        case = case._replace(assignment=assignment_of(case.student, {(0, 3): 1}))
        gated = term(*case)
        everywhere = term(*case, gate_levels=False)
        assert everywhere > gated
        assert places_of(everywhere, case.student).all()

    @each_gated_term
    def test_gating_changes_nothing_where_every_level_has_a_positive(
        self, term: Term, case: Case
    ) -> None:
        assert term(*case) == term(*case, gate_levels=False)

    @each_gated_term
    def test_a_batch_without_positives_teaches_nothing(
        self, term: Term, case: Case, assignment_of: Make
    ) -> None:
        loss = term(case.student, case.teacher, assignment_of(case.student, {}))
        assert loss == 0
        assert not any(gradient.any() for gradient in gradients(loss, case.student))

    @each_gated_term
    def test_padding_is_left_out(self, term: Term, case: Case) -> None:
        valid = case.assignment.valid.clone()
        valid[0, 4:10] = valid[1, 21:] = False
        padded = replace(case.assignment, valid=valid)
        for gate_levels in (True, False):
            loss = term(case.student, case.teacher, padded, gate_levels=gate_levels)
            assert torch.equal(places_of(loss, case.student), valid)

    @each_gated_term
    def test_divided_by_the_positives(self, term: Term, case: Case) -> None:
        halved = replace(case.assignment, num_positives=2 * case.assignment.num_positives)
        torch.testing.assert_close(2 * term(case.student, case.teacher, halved), term(*case))

    @pytest.mark.parametrize("term", [softmax_classification, localisation_distribution])
    def test_on_positives_alone(self, term: Term, case: Case) -> None:
        loss = term(*case, places="positives")
        assert torch.equal(places_of(loss, case.student), case.assignment.positive)

    def test_ld_on_the_region_alone(self, case: Case) -> None:
        region = torch.where(case.assignment.localisation_region > 0.7, 0.4, 0.0)
        assignment = replace(case.assignment, localisation_region=region)
        loss = region_ld(*case._replace(assignment=assignment))
        assert torch.equal(places_of(loss, case.student), region > 0)

    def test_ld_does_not_divide_by_the_positives(self, case: Case) -> None:
        other = replace(case.assignment, num_positives=10 * case.assignment.num_positives)
        for term in (localisation_distribution, region_ld):
            assert term(case.student, case.teacher, other) == term(*case)


def places_of(loss: Tensor, student: DenseOutput) -> Tensor:
    """(N, A) bool: where the loss moves the student."""
    cls_gradient, box_gradient = gradients(loss, student)
    return cls_gradient.any(dim=-1) | box_gradient.flatten(2).any(dim=-1)


class TestErrors:
    def test_ld_needs_distributions(self, case: Case) -> None:
        for side in ("student", "teacher"):
            bare = replace(getattr(case, side), box_logits=None)
            with pytest.raises(InputError, match="needs box distributions"):
                localisation_distribution(*case._replace(**{side: bare}))

    def test_ld_needs_as_many_bins(self, case: Case, dense_output: Make) -> None:
        with pytest.raises(InputError, match="student has 6 bins a side and teacher 9"):
            localisation_distribution(case.student, dense_output(bins=9), case.assignment)

    def test_ld_on_the_region_needs_a_region(self, case: Case) -> None:
        without = replace(case.assignment, localisation_region=None)
        with pytest.raises(InputError, match="no localisation region"):
            region_ld(case.student, case.teacher, without)

    def test_boxes_are_distilled_without_distributions(self, case: Case) -> None:
        bare = replace(case.student, box_logits=None), replace(case.teacher, box_logits=None)
        assert iou_localisation(*bare, case.assignment) == iou_localisation(*case)

    @pytest.mark.parametrize(
        ("difference", "described"),
        [
            ({"shapes": ((4, 5), (3, 3))}, "8: 4x5, 16: 2x3 against 8: 4x5, 16: 3x3"),
            ({"strides": (4, 8)}, "8: 4x5, 16: 2x3 against 4: 4x5, 8: 2x3"),
            ({"num_classes": 80}, "student has 3 classes, teacher has 80"),
        ],
    )
    def test_what_differs_is_named(
        self, case: Case, dense_output: Make, difference: dict[str, Any], described: str
    ) -> None:
        with pytest.raises(InputError, match=described):
            check_comparable(case.student, dense_output(**difference))

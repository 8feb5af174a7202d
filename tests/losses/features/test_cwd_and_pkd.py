"""CWD and PKD: by loops from their papers' formulas, and what they do not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.losses.features.cwd import ChannelWise
from bckd.losses.features.pkd import Pearson
from bckd.structures import Assignment, DenseOutput

Make = Callable[..., DenseOutput]
Term = type[ChannelWise] | type[Pearson]
each_term = pytest.mark.parametrize("term", [ChannelWise, Pearson])


def divergence_by_loops(ours: Tensor, theirs: Tensor) -> float:
    """Mean over images and channels of KL(softmax over cells of theirs || that of ours)."""
    images, channels = ours.shape[:2]
    total = 0.0
    for n in range(images):
        for c in range(channels):
            a, b = ours[n, c].flatten().tolist(), theirs[n, c].flatten().tolist()
            sums = [sum(math.exp(x) for x in values) for values in (a, b)]
            for x, y in zip(a, b, strict=True):
                p, q = math.exp(y) / sums[1], math.exp(x) / sums[0]
                total += p * math.log(p / q)
    return total / (images * channels)


def uncorrelated_by_loops(ours: Tensor, theirs: Tensor) -> float:
    """Mean over channels of 1 - r over the cells of all images."""
    channels = ours.shape[1]
    total = 0.0
    for c in range(channels):
        a, b = ours[:, c].flatten().tolist(), theirs[:, c].flatten().tolist()
        means = [sum(values) / len(values) for values in (a, b)]
        sizes = [
            math.sqrt(sum((x - m) ** 2 for x in v)) for v, m in zip((a, b), means, strict=True)
        ]
        both = sum((x - means[0]) * (y - means[1]) for x, y in zip(a, b, strict=True))
        total += 1 - both / (sizes[0] * sizes[1])
    return total / channels


@each_term
class TestBoth:
    def test_by_loops(self, term: Term, maps_of: Make, nothing_assigned: Assignment) -> None:
        by_loops = divergence_by_loops if term is ChannelWise else uncorrelated_by_loops
        student, teacher = maps_of(1, 3), maps_of(2, 3)
        pairs = zip(student.features, teacher.features, strict=True)
        expected = sum(by_loops(*pair) for pair in pairs)
        found = term(student, teacher)(student, teacher, nothing_assigned)
        assert found.item() == pytest.approx(expected, rel=1e-4)

    def test_other_channels_are_adapted(
        self, term: Term, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        student, teacher = maps_of(1, 3), maps_of(2, 5)
        module = term(student, teacher)
        assert sum(p.numel() for p in module.parameters()) == 2 * (3 * 5 + 5)  # 2 levels
        adapted = [f(x) for f, x in zip(module.adapters, student.features, strict=True)]
        alike = replace(student, features=tuple(adapted))
        expected = term(alike, teacher)(alike, teacher, nothing_assigned)
        torch.testing.assert_close(module(student, teacher, nothing_assigned), expected)

    def test_student_and_adapters_learn_and_the_teacher_does_not(
        self, term: Term, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        student, teacher = maps_of(1, 3), maps_of(2, 5)
        module = term(student, teacher)
        module(student, teacher, nothing_assigned).backward()
        learning = [*student.features, *(f.weight for f in module.adapters)]
        assert all(x.grad is not None and x.grad.any() for x in learning)
        assert all(x.grad is None for x in teacher.features)

    def test_nothing_is_learnt_of_oneself(
        self, term: Term, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        student, teacher = maps_of(1, 3), maps_of(1, 3)
        module = term(student, teacher)
        assert not list(module.parameters())
        loss = module(student, teacher, nothing_assigned)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-5)
        assert all(x.grad.abs().max() < 1e-6 for x in student.features)

    def test_a_batch_twice_over_has_its_value(
        self,
        term: Term,
        maps_of: Make,
        nothing_assigned: Assignment,
        doubled: Callable[[DenseOutput], DenseOutput],
    ) -> None:
        pair = maps_of(1, 3), maps_of(2, 5)
        module = term(*pair)
        once = module(*pair, nothing_assigned)
        torch.testing.assert_close(module(*map(doubled, pair), nothing_assigned), once)

    def test_a_level_of_one_cell_in_half_precision(
        self, term: Term, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        """Neither nothing to compare nor the type of a network under autocast is a fault."""
        student, teacher = maps_of(1, 3, 1, ((1, 1),)), maps_of(2, 5, 1, ((1, 1),))
        half = replace(student, features=(student.features[0].bfloat16(),))
        loss = term(half, teacher)(half, teacher, nothing_assigned)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0, abs=1e-6)
        assert student.features[0].grad.isfinite().all()


class TestChannelWise:
    def test_where_a_channel_is_active_counts_and_its_level_does_not(
        self, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        teacher = maps_of(1, 3)
        module = ChannelWise(teacher, teacher)
        raised = replace(teacher, features=tuple(x + 7 for x in teacher.features))
        shrunk = replace(teacher, features=tuple(x / 2 for x in teacher.features))
        assert module(raised, teacher, nothing_assigned).item() == pytest.approx(0, abs=1e-5)
        assert module(shrunk, teacher, nothing_assigned) > 0.1


class TestPearson:
    def test_neither_a_channels_level_nor_its_size_counts(
        self, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        teacher = maps_of(1, 3)
        module = Pearson(teacher, teacher)
        factors = torch.tensor([0.1, 1, 20]).reshape(-1, 1, 1)
        other = replace(teacher, features=tuple(x * factors - 4 for x in teacher.features))
        assert module(other, teacher, nothing_assigned).item() == pytest.approx(0, abs=1e-5)

    def test_a_channel_that_is_the_same_everywhere(
        self, maps_of: Make, nothing_assigned: Assignment
    ) -> None:
        """It is worth a half, has a finite gradient, and does not stop the others."""
        teacher = maps_of(1, 3)
        flat = [torch.zeros_like(x).requires_grad_() for x in teacher.features]
        student = replace(teacher, features=tuple(flat))
        loss = Pearson(student, teacher)(student, teacher, nothing_assigned)
        loss.backward()
        assert loss.item() == pytest.approx(0.5 * len(flat), rel=1e-4)
        assert all(x.grad.isfinite().all() for x in flat)

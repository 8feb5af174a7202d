from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.assigners import AssignmentRules
from bckd.losses.options import LossOptions
from bckd.losses.rows import Rows
from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS
from bckd.recipes import LossWeights
from bckd.structures import Assignment, DenseOutput, GroundTruth
from bckd.training.terms import distillation_terms

CLASSES, BINS = 3, 5


class TestRows:
    @pytest.fixture(params=["chosen", "all"])
    def rows(self, request: pytest.FixtureRequest) -> Rows:
        mask = torch.tensor([[True, False, False], [False, True, True]])
        return Rows.where(mask) if request.param == "chosen" else Rows(mask, None)

    def test_on_a_cpu_they_are_the_places_of_the_mask(self) -> None:
        rows = Rows.where(torch.tensor([[True, False], [False, True]]))
        assert rows.take(torch.arange(4).view(2, 2)).tolist() == [0, 3]

    def test_elsewhere_they_are_all_places(self) -> None:
        rows = Rows.where(torch.zeros(2, 2, dtype=torch.bool, device="meta"))
        assert rows.chosen is None

    def test_only_and_put_leave_zeros_outside(self, rows: Rows) -> None:
        values = torch.tensor([[1.0, torch.nan, torch.inf], [torch.nan, 5, 6]])
        assert rows.only(rows.take(values)).sum() == 12
        assert rows.put(rows.take(values)).tolist() == [[1, 0, 0], [0, 5, 6]]
        of_all = torch.tensor([1.0, 2, 3])
        assert rows.put(rows.take_each(of_all)).tolist() == [[1, 0, 0], [0, 2, 3]]


def outputs(head: str, requires_grad: bool, seed: int) -> DenseOutput:
    """Of two levels, as that family's detector might give it."""
    family, generator = HEADS[head], torch.Generator().manual_seed(seed)
    places = family.locations([(16, 20), (8, 10)], (8, 16), family.defaults.anchor_scale)
    count = sum(places.counts)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(2, count, *shape, generator=generator).requires_grad_(requires_grad)

    centres = places.centres[None, :, :].repeat(2, 1, 1)
    sides = 8 + 40 * torch.rand(2, count, 2, generator=generator)
    boxes = torch.cat([centres - sides, centres + sides], dim=-1).requires_grad_(requires_grad)
    fields = {"box_logits": leaf(4, BINS), "deltas": leaf(4), "quality": leaf()}
    return DenseOutput(leaf(CLASSES), boxes, places, **fields)


def assigned(head: str, output: DenseOutput) -> Assignment:
    """The second image has no boxes; one of the first is at the corner of the grid."""
    boxes = torch.tensor([[[0.0, 0, 60, 64], [40, 30, 110, 100]], [[0, 0, 0, 0]] * 2])
    labels = torch.tensor([[2, 0], [-1, -1]])
    truth = GroundTruth(boxes, labels, torch.zeros_like(labels, dtype=torch.bool))
    rules = AssignmentRules(region="official" if head in ("gfl", "atss") else None)
    return HEADS[head].assign(output, truth, torch.tensor([[128, 160]] * 2), rules)


@pytest.mark.parametrize("head", HEADS)
def test_losses_over_all_rows_are_those_over_the_positives(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU computes, on the CPU: the same terms and gradients, and all of them finite."""
    region = head in ("gfl", "atss")
    weights = LossWeights(softmax=1, ld=1, ld_region=float(region), dist=1, yolov6=1)
    teacher, found = outputs(head, False, 1), []
    for over_all in (False, True):
        if over_all:
            monkeypatch.setattr(Rows, "where", classmethod(lambda cls, mask: cls(mask, None)))
        student = outputs(head, True, 0)
        assignment = assigned(head, student)
        terms = dict(HEADS[head].losses(student, assignment, LossOptions()))
        pair = (student, teacher, assignment, None)
        terms |= distillation_terms(*pair, weights, LossOptions())
        torch.stack(list(terms.values())).sum().backward()
        leaves = {name: x.grad for name, x in student.per_location().items() if x.grad is not None}
        found.append((terms, leaves))
    (terms, leaves), (others, other_leaves) = found
    assert assignment.positive.any()
    functions = {name for name, term in TERMS.items() if term.make is not None}
    assert functions - {"ld_region"} <= set(terms)
    for name, value in terms.items():
        torch.testing.assert_close(others[name], value, rtol=1e-5, atol=1e-7, msg=name)
    for name, value in leaves.items():
        assert value.isfinite().all(), name
        torch.testing.assert_close(other_leaves[name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_kept_scores_are_those_of_their_logits_alone() -> None:
    output = outputs("gfl", False, 0)
    kept = output.keeping_scores()
    assert kept.scores is kept.scores and output.scores is not output.scores
    assert torch.equal(kept.scores, output.scores)
    assert torch.equal(kept.background_bce, output.background_bce)
    changed = replace(kept, cls_logits=output.cls_logits + 1)
    assert torch.equal(changed.scores, (output.cls_logits + 1).sigmoid())

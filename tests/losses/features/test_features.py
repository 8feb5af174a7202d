"""What the terms of maps have in common; FitNets and MGD, by loops from their papers' formulas."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bckd.correspondence import choose_levels
from bckd.geometry import grid
from bckd.losses.features.defeat import Decoupled
from bckd.losses.features.fgd import FocalAndGlobal
from bckd.losses.features.fine_grained import FineGrained
from bckd.losses.features.fitnet import FitNet
from bckd.losses.features.general_instance import GeneralInstances
from bckd.losses.features.mgd import MaskedGeneration
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth
from tests.losses.features.cases import (
    BOXES,
    Pair,
    adapted,
    assigned,
    batch_of,
    wave,
    with_truth,
)
from tests.system.test_devices import NoCopies, batch_on

SHAPES = ((4, 5), (2, 3))
TERMS = {
    "fitnet": FitNet,
    "fine-grained": FineGrained,
    "defeat": Decoupled,
    "general instances": GeneralInstances,
    "mgd": MaskedGeneration,
    "fgd": FocalAndGlobal,
}
each_term = pytest.mark.parametrize("name", TERMS)


@pytest.fixture
def with_maps(dense_output: Callable[..., DenseOutput]) -> Callable[[int, int], DenseOutput]:
    def make(seed: int, channels: int) -> DenseOutput:
        generator = torch.Generator().manual_seed(seed)
        maps = [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]
        features = tuple(map_.requires_grad_() for map_ in maps)
        return replace(dense_output(seed=seed), features=features)

    return make


@pytest.fixture
def pair(with_maps: Callable[[int, int], DenseOutput]) -> Pair:
    """A student of 3 channels and a teacher of 4."""
    return with_maps(0, 3), with_maps(1, 4)


def built(name: str, pair: Pair) -> nn.Module:
    torch.manual_seed(3)
    return TERMS[name](*pair)


def value(term: nn.Module, pair: Pair, batch: Batch) -> Tensor:
    torch.manual_seed(4)  # of MGD's masks
    return term(*pair, assigned(pair[0]), batch)


@each_term
class TestEach:
    def test_it_says_what_it_needs(self, name: str) -> None:
        assert TERMS[name].needs == ("features",)

    def test_student_and_adapters_learn_and_the_teacher_does_not(
        self, name: str, pair: Pair
    ) -> None:
        term = built(name, pair)
        value(term, pair, batch_of(BOXES)).backward()
        # Some have objects of one size on one level.
        learn = any if name in ("fine-grained", "general instances") else all
        assert learn(x.grad.any() for x in pair[0].features)
        assert learn(adapter.weight.grad.any() for adapter in term.adapters)
        assert all(parameter.grad.isfinite().all() for parameter in term.parameters())
        assert all(x.grad is None for x in pair[1].features)
        assert pair[0].cls_logits.grad is None and pair[0].box_logits.grad is None

    def test_equal_channels_need_no_adapter(
        self, name: str, with_maps: Callable[[int, int], DenseOutput]
    ) -> None:
        alike = with_maps(0, 4), with_maps(1, 4)
        term = built(name, alike)
        assert not [*term.adapters.parameters()]
        assert value(term, alike, batch_of(BOXES)) > 0

    def test_nothing_is_learnt_of_oneself(
        self, name: str, with_maps: Callable[[int, int], DenseOutput]
    ) -> None:
        same = with_maps(0, 4), with_maps(0, 4)
        found = value(built(name, same), same, batch_of(BOXES))
        found.backward()
        if name != "mgd":  # whose generators have to learn first
            assert found.item() == pytest.approx(0, abs=1e-6)
            assert all(x.grad.abs().max() < 1e-5 for x in same[0].features)

    def test_two_copies_of_a_batch_have_the_value_of_one(
        self, name: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def same_for_each_image(like: Tensor) -> Tensor:
            return wave(0, *like.shape[1:]).abs().expand(like.shape)

        monkeypatch.setattr(torch, "rand_like", same_for_each_image)
        term = built(name, pair)
        one = value(term, pair, batch_of(BOXES))
        two = value(term, (doubled(pair[0]), doubled(pair[1])), batch_of(BOXES * 2))
        torch.testing.assert_close(two, one)

    def test_images_without_objects(self, name: str, pair: Pair) -> None:
        found = value(built(name, pair), pair, batch_of([[], []]))
        found.backward()
        assert found.isfinite() and found.shape == ()
        assert all(x.grad.isfinite().all() for x in pair[0].features)

    def test_padded_rows_and_crowds_are_no_objects(self, name: str, pair: Pair) -> None:
        batch, term = batch_of(BOXES), built(name, pair)
        truth = batch.ground_truth
        rows = torch.tensor([[[0.0, 0, 40, 32], [16, 0, 40, 32]]]).expand(2, -1, -1)
        more = GroundTruth(
            boxes=torch.cat([truth.boxes, rows], dim=1),
            labels=torch.cat([truth.labels, torch.tensor([[-1, 0]] * 2)], dim=1),
            crowd=torch.cat([truth.crowd, torch.tensor([[False, True]] * 2)], dim=1),
        )
        found = value(term, pair, with_truth(batch, more))
        assert found == value(term, pair, batch)

    def test_one_level(self, name: str, pair: Pair) -> None:
        fine = choose_levels(pair[0], (8,)), choose_levels(pair[1], (8,))
        found = value(built(name, fine), fine, batch_of(BOXES))
        assert found > 0 and found.isfinite()

    def test_networks_in_half_precision(self, name: str, pair: Pair) -> None:
        halves = [replace(x, features=tuple(m.bfloat16() for m in x.features)) for x in pair]
        half = halves[0], halves[1]
        found = value(built(name, half), half, batch_of(BOXES))
        found.backward()
        assert found.dtype == torch.float32 and found.isfinite()

    def test_it_draws_nothing_but_mgds_masks(self, name: str, pair: Pair) -> None:
        term = built(name, pair)
        one, state = value(term, pair, batch_of(BOXES)), torch.get_rng_state()
        torch.manual_seed(4)
        assert torch.equal(torch.get_rng_state(), state) == (name != "mgd")
        assert value(term, pair, batch_of(BOXES)) == one

    def test_the_host_never_waits_for_a_gpu(self, name: str) -> None:
        with warnings.catch_warnings(), FakeTensorMode(), torch.device("cuda"):
            warnings.filterwarnings("ignore", "CUDA is not available")
            locations = grid(((12, 12), (6, 6), (3, 3)), (8, 16, 32), "cuda")
            count = len(locations.centres)
            said = torch.zeros(4, count, 3), torch.zeros(4, count, 4)
            student, teacher = (
                DenseOutput(
                    *said,
                    locations,
                    features=tuple(
                        torch.zeros(4, channels, x.height, x.width, requires_grad=True)
                        for x in locations.levels
                    ),
                )
                for channels in (3, 5)
            )
            everywhere = torch.ones(4, count, dtype=torch.bool)
            term, batch = TERMS[name](student, teacher), batch_on("cuda")
            with NoCopies():
                found = term(student, teacher, Assignment.for_distillation(everywhere), batch)
            assert found.device.type == "cuda" and found.requires_grad


def doubled(output: DenseOutput) -> DenseOutput:
    return replace(
        output,
        features=tuple(torch.cat([x, x]) for x in output.features),
        cls_logits=torch.cat([output.cls_logits] * 2),
        boxes=torch.cat([output.boxes] * 2),
    )


def test_fitnet_by_loops(pair: Pair) -> None:
    term = FitNet(*pair)
    expected = 0.0
    for ours, theirs in adapted(term, pair):
        rows = (x.flatten().tolist() for x in (ours, theirs))
        gaps = [(a - b) ** 2 for a, b in zip(*rows, strict=True)]
        expected += sum(gaps) / len(gaps)
    assert value(term, pair, batch_of(BOXES)).item() == pytest.approx(expected, rel=1e-5)


class TestMGD:
    def test_by_loops(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        term = MaskedGeneration(*pair)
        drawn = [torch.rand(2, 1, *shape) for shape in SHAPES]
        left = iter(drawn)
        monkeypatch.setattr(torch, "rand_like", lambda like: next(left))
        expected = 0.0
        rows = zip(term.generators, adapted(term, pair), drawn, strict=True)
        for (first, _, second), (ours, theirs), numbers in rows:
            for image in range(2):
                hidden = ours[image].clone()
                hidden[:, numbers[image, 0] < 0.65] = 0
                made = F.conv2d(hidden, first.weight, first.bias, padding=1).clamp(min=0)
                made = F.conv2d(made, second.weight, second.bias, padding=1)
                expected += (made - theirs[image]).square().sum().item() / 2
        found = term(*pair, assigned(pair[0]), batch_of(BOXES))
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_two_thirds_of_the_cells_are_hidden_in_all_channels(self) -> None:
        seen = []
        ones = torch.ones(4, 5, 60, 60)
        locations = grid(((60, 60),), (8,))
        output = DenseOutput(
            torch.zeros(4, 3600, 1), torch.zeros(4, 3600, 4), locations, features=(ones,)
        )
        term = MaskedGeneration(output, output)
        term.generators[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        value(term, (output, output), batch_of([[]] * 4, 480, 480))
        assert seen[0].mean().item() == pytest.approx(0.35, abs=0.01)
        assert torch.equal(seen[0].amin(dim=1), seen[0].amax(dim=1))

    def test_masks_follow_torchs_seed(self, pair: Pair) -> None:
        term = built("mgd", pair)
        values = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            values.append(term(*pair, assigned(pair[0]), batch_of(BOXES)).item())
        assert values[0] == values[1] != values[2]

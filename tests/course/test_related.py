"""Published terms on a pair of small detectors: what they have learnt, and where they pull."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from bckd.course.related import (
    Pair,
    fit,
    gradient_on_maps,
    make_terms,
    over_picture,
    pair_of,
    pull_on_maps,
    share_at_objects,
)
from bckd.losses.features.fitnet import FitNet
from bckd.losses.features.mgd import MaskedGeneration
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import IMAGENET
from bckd.structures import Batch, GroundTruth


@cache
def detector(channels: int) -> Detector:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone="small_resnet", pretrained=False, frozen_stages=0, width=8, channels=channels,
        strides=(8, 16), head_convs=1, head_groups=4, reg_max=4, anchor_scale=3.0,
    )  # fmt: skip
    return Detector(config, ("a", "b")).eval()


@cache
def pair(student: int = 8) -> Pair:
    """Of two pictures of noise, the first with an object in its left upper quarter."""
    pixels = torch.randint(0, 255, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[32, 32]] * 2)
    truth = GroundTruth.from_lists(
        [torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.zeros(0, 4)],
        [torch.tensor([0]), torch.zeros(0, dtype=torch.long)],
    )
    batch = Batch(
        pixels.byte(), IMAGENET, sizes, sizes, ((32, 32),) * 2, sizes,
        torch.tensor([[0, 0, 32, 32]] * 2), truth, (0, 1), (False, False), (0, 1), ("a", "b"),
    )  # fmt: skip
    return pair_of(detector(student), detector(16), batch)


def test_an_adapter_becomes_the_best_there_is() -> None:
    terms = make_terms(("fitnet",), detector(8), detector(16), pair())
    term = terms["fitnet"]
    assert isinstance(term, FitNet)
    before = pair().of(term).item()
    fit(terms, pair())
    assert pair().of(term).item() < before
    for adapter in term.adapters:
        adapter.requires_grad_(True)
    slopes = torch.autograd.grad(pair().of(term), [*term.adapters.parameters()])
    assert max(x.abs().max().item() for x in slopes) < 1e-4 * before


def test_what_has_no_closed_form_learns_and_the_student_does_not() -> None:
    weights = {name: x.clone() for name, x in detector(8).state_dict().items()}
    terms = make_terms(("mgd", "crosskd", "binary"), detector(8), detector(16), pair())
    mgd, crosskd = terms["mgd"], terms["crosskd"]
    assert isinstance(mgd, MaskedGeneration)
    before = pair().of(mgd).item(), pair().of(crosskd).item()
    generators = [x.clone() for x in mgd.generators.parameters()]
    fit(terms, pair())
    assert pair().of(mgd).item() < before[0] and pair().of(crosskd).item() < before[1]
    learnt = zip(generators, mgd.generators.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in learnt)
    assert all(torch.equal(x, weights[name]) for name, x in detector(8).state_dict().items())


def test_a_value_and_terms_are_always_the_same() -> None:
    state = torch.get_rng_state()
    first, again = (make_terms(("mgd",), detector(8), detector(16), pair()) for _ in range(2))
    assert pair().of(first["mgd"]) == pair().of(first["mgd"]) == pair().of(again["mgd"])
    assert torch.equal(torch.get_rng_state(), state)


def test_pull_is_the_length_of_the_gradient_on_each_cell() -> None:
    term = make_terms(("binary",), detector(8), detector(16), pair())["binary"]
    gradients = gradient_on_maps(pair().of(term), pair())
    pull = pull_on_maps(term, pair())
    assert [tuple(x.shape) for x in pull] == [(2, 4, 4), (2, 2, 2)]
    assert pull[0][0, 1, 2] == pytest.approx(gradients[0][0, :, 1, 2].norm().item())
    boxes_alone = gradient_on_maps(pair().student.boxes[0, 0].sum(), pair())
    assert boxes_alone[0][0].abs().sum() > 0 == boxes_alone[1].abs().sum()


def test_a_pull_that_is_the_same_everywhere_has_the_cells_share() -> None:
    ones = [torch.ones(2, 4, 4), torch.ones(2, 2, 2)]
    assert share_at_objects(ones, pair()) == pytest.approx((4 + 1) / (32 + 8))


def test_the_picture_holds_the_whole_pull() -> None:
    pull = [torch.rand(2, 4, 4), torch.rand(2, 2, 2)]
    picture = over_picture(pull, pair(), 1)
    assert picture.shape == (32, 32)
    assert picture.sum() == pytest.approx(sum(x[1].sum().item() for x in pull), rel=1e-5)
    corner = pull[0][1, 0, 3] / 64 + pull[1][1, 0, 1] / 256
    assert np.allclose(picture[:8, 24:], corner)

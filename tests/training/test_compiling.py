"""What `--compile` compiles is one graph, captured here without making code of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bckd.models.detector import Detector, DetectorConfig
from bckd.models.heads import HEADS
from bckd.models.heads.layers import GroupNorm
from bckd.normalisation import IMAGENET
from bckd.recipes import Recipe
from bckd.structures import Batch, GroundTruth
from bckd.teachers.targets import live_teaching
from bckd.training import terms as terms_of_a_step
from bckd.training.compiling import compiled
from bckd.training.terms import compute_terms, weights_at

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def batch(objects: int) -> Batch:
    generator = torch.Generator().manual_seed(objects)
    corners, sides = (40 * torch.rand(2, objects, 2, generator=generator) for _ in range(2))
    sizes = torch.tensor([[64, 96]] * 2)
    labels = torch.randint(3, (2, objects), generator=generator)
    crowd = torch.zeros_like(labels, dtype=torch.bool)
    return Batch(
        pixels=torch.randint(256, (2, 3, 64, 96), generator=generator).to(torch.uint8),
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=((64, 96),) * 2,
        original_sizes=sizes,
        frames=sizes.repeat(1, 2),
        ground_truth=GroundTruth(
            torch.cat([corners, corners + 8 + sides], dim=-1), labels, crowd, has_crowd=False
        ),
        indices=(0, 1),
        flipped=(False, False),
        image_ids=(0, 1),
        file_names=("", ""),
    )


def without_labels(images: Batch) -> Batch:
    """The same, the first of which has no labels."""
    truth, known = images.ground_truth, torch.tensor([False, True])
    labels = torch.where(known[:, None], truth.labels, -1)
    return replace(images, ground_truth=replace(truth, labels=labels, labelled=known))


@pytest.mark.parametrize("head", HEADS)
def test_networks_and_losses_are_one_graph_each(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = DetectorConfig(
        head=head,
        backbone="small_resnet",
        width=4,
        pretrained=False,
        frozen_stages=0,
        channels=8,
        head_groups=2,
        head_convs=1,
        strides=(8, 16),  # of each level the graphs have the same lines again
    )
    torch.manual_seed(0)
    student, teacher = (Detector(model, NAMES) for _ in range(2))
    student, teacher = student.train(), teacher.eval().requires_grad_(False)
    recipe = replace(Recipe(), model=model.resolved())
    options = {"fullgraph": True, "backend": "eager"}
    whole = torch.compile(terms_of_a_step._from_outputs, **options)
    monkeypatch.setattr(terms_of_a_step, "_compiled", lambda: whole)
    fast, fast_teacher = (torch.compile(x, **options) for x in (student, teacher))
    weights = weights_at(recipe, 0)
    for images in (batch(3), batch(5), batch(2), without_labels(batch(4))):
        given = (images, recipe, weights)
        expected = compute_terms(student, live_teaching(teacher), *given).values
        given = (images, replace(recipe, compile=True), weights)
        found = compute_terms(fast, live_teaching(fast_teacher), *given).values
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_group_norm_in_a_graph_keeps_type_and_memory_format() -> None:
    torch.manual_seed(0)
    norm = GroupNorm(4, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 8, 6, 5).contiguous(memory_format=torch.channels_last)
    in_graph = torch.compile(norm, backend="eager", fullgraph=True)
    torch.testing.assert_close(in_graph(x), norm(x), rtol=1e-5, atol=1e-6)
    assert in_graph(x).is_contiguous(memory_format=torch.channels_last)
    half = in_graph(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), norm(x), rtol=2e-2, atol=2e-2)


def test_nothing_is_compiled_unasked() -> None:
    norm = GroupNorm(4, 8)
    assert compiled(norm, Recipe()) is norm
    assert compiled(norm, replace(Recipe(), compile=True)) is not norm

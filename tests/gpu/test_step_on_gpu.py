"""A training step on the GPU: the CPU's numbers, no wait of the host, compiled as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.evaluation.gradient_shares import pull_of_terms, pulled_parameters
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.heads import HEADS
from bckd.models.postprocess import postprocess
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.teachers.targets import TeacherTargets, live_teaching
from bckd.training.checks import FiniteCheck
from bckd.training.data import training_data
from bckd.training.schedule import build_optimizer
from bckd.training.steering import Steering
from bckd.training.teacher import ready_teacher
from bckd.training.terms import compute_terms, supervision_of, term_weights, weights_at
from tests.gpu.conftest import random_batch

LOSS, GRADIENT = 1e-4, 2e-3  # relative; of gradients by their norm
BF16 = 0.01  # of the loss


def recipe_of(head: str, **changes: object) -> Recipe:
    model = DetectorConfig(
        head=head, backbone="resnet18", pretrained=False, frozen_stages=0, channels=64
    )
    return replace(Recipe(), model=model.resolved(), **changes)


def detector_of(recipe: Recipe, seed: int) -> Detector:
    """A detector whose scores are spread, so that distillation has something to say."""
    torch.manual_seed(seed)
    detector = Detector(recipe.model, ("a", "b", "c"))
    torch.nn.init.normal_(detector.head.cls.weight, std=0.1)
    return detector


def step(recipe: Recipe, device: str, autocast: torch.dtype | None = None) -> tuple[dict, Tensor]:
    """Weighted terms of a step with a teacher, and the gradient of their sum."""
    student = detector_of(recipe, 0).train().to(device)
    teacher = detector_of(recipe, 1).eval().requires_grad_(False).to(device)
    teaching = ready_teacher(teacher, recipe)
    batch, weights = random_batch().to(device), weights_at(recipe, 0)
    network = torch.compile(student) if recipe.compile else student
    terms = compute_terms(network, teaching, batch, recipe, weights, autocast)
    factors = term_weights(recipe, supervision_of(student, recipe), 0)
    weighted = {name: factors[name] * x for name, x in terms.values.items()}
    torch.stack(list(weighted.values())).sum().backward()
    gradients = [x.grad.flatten() for x in student.parameters() if x.grad is not None]
    return {name: x.item() for name, x in weighted.items()}, torch.cat(gradients).cpu()


def check_same(
    found: tuple[dict[str, float], Tensor],
    expected: tuple[dict[str, float], Tensor],
    loss: float = LOSS,
    gradient: float = GRADIENT,
) -> None:
    assert found[0] == pytest.approx(expected[0], rel=loss, abs=loss * 1e-2)
    assert (found[1] - expected[1]).norm() <= gradient * expected[1].norm()


@pytest.mark.parametrize("head", HEADS)
def test_is_that_of_the_cpu(head: str) -> None:
    recipe = recipe_of(head, precision="float32")
    check_same(step(recipe, "cuda"), step(recipe, "cpu"))


@pytest.mark.parametrize("head", HEADS)
def test_bf16_is_near(head: str) -> None:
    recipe = recipe_of(head, precision="float32")
    exact, _ = step(recipe, "cuda")
    rounded, _ = step(replace(recipe, precision="bf16"), "cuda", torch.bfloat16)
    assert sum(rounded.values()) == pytest.approx(sum(exact.values()), rel=BF16)


@pytest.mark.parametrize("head", HEADS)
def test_compiled_is_the_same(head: str) -> None:
    torch.compiler.reset()
    recipe = recipe_of(head, precision="float32")
    check_same(step(replace(recipe, compile=True), "cuda"), step(recipe, "cuda"))


@pytest.mark.parametrize("head", HEADS)
def test_detections_are_those_of_the_cpu(head: str) -> None:
    recipe = recipe_of(head)
    batch, found = random_batch(), {}
    for device in ("cpu", "cuda"):
        detector, moved = detector_of(recipe, 0).eval().to(device), batch.to(device)
        with torch.no_grad():
            output = detector(moved.images)
            settings = replace(detector.settings, score_threshold=0.005)
            found[device] = postprocess(output, moved.sizes, settings)
    assert sum(len(x.scores) for x in found["cpu"]) > 0
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(ours.scores.cpu(), theirs.scores, rtol=0, atol=1e-4)


@contextmanager
def no_wait() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("head", HEADS)
def test_the_host_never_waits(head: str) -> None:
    recipe = recipe_of(head)
    student = detector_of(recipe, 0).train().cuda()
    teacher = detector_of(recipe, 1).eval().requires_grad_(False).cuda()
    teaching = live_teaching(teacher, torch.bfloat16)
    optimizer = build_optimizer(student, recipe.optimisation)
    finite, host = FiniteCheck(student), random_batch().pin_memory()
    steering = Steering({"binary": 0.3}).cuda()
    for attempt in range(2):  # the first one sets things up
        with no_wait() if attempt else _anything():
            batch: Batch = host.to("cuda")
            weights = weights_at(recipe, 0)
            terms = compute_terms(student, teaching, batch, recipe, weights, torch.bfloat16)
            total = torch.stack(list(terms.values.values())).sum()
            finite.add(total, terms, attempt, batch)
            steering.update(pull_of_terms(terms.values, pulled_parameters(student)))
            total.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def test_kept_answers_of_the_teacher_come_without_a_wait(tiny_recipe: Recipe) -> None:
    dataset = training_data(tiny_recipe.data, 0)
    names = dataset.annotations.class_names
    teacher = Detector(tiny_recipe.model, names).eval().requires_grad_(False).cuda()
    kept = TeacherTargets(teacher, dataset, batch_size=4, progress=False)
    batch: Batch = dataset.batch([3, 1]).pin_memory()
    for attempt in range(2):  # the first one takes page-locked memory
        with no_wait() if attempt else _anything():
            found = kept(batch.to("cuda"))
    for name, values in kept.values.items():
        assert torch.equal(getattr(found, name).cpu(), values[[3, 1]])


@contextmanager
def _anything() -> Iterator[None]:
    yield


def test_a_wait_is_seen() -> None:
    with pytest.raises(RuntimeError, match="synchroniz"), no_wait():
        torch.ones(1, device="cuda").item()

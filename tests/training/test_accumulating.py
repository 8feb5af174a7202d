"""A step in parts: the terms, gradients and running statistics of all its images at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import collate
from bckd.models.detector import Detector, HeadName
from bckd.recipes import LossWeights, Recipe
from bckd.structures import Batch, DenseOutput
from bckd.system.distributed import shared
from bckd.system.errors import InputError
from bckd.teachers.targets import live_teaching, teaching_in_parts
from bckd.training.accumulating import InParts
from bckd.training.data import training_data
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.terms import compute_terms
from bckd.training.trainer import train
from bckd.zoo.unfinished import STATE, STUDENT
from tests.processes import start_processes

HEADS: tuple[HeadName, ...] = get_args(HeadName)
IMAGES, NAMES = 8, tuple("rgb")

IMITATION = """
from torch import nn
from bckd.losses.terms import needs

@needs("features")
class Imitation(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        ours, theirs = (x.features[0].shape[1] for x in (student, teacher))
        self.adapter = nn.Conv2d(ours, theirs, 1)

    def forward(self, student, teacher, assignment, batch):
        pairs = zip(student.features, teacher.features, strict=True)
        pairs = ((self.adapter(ours.float()), theirs.float()) for ours, theirs in pairs)
        return sum((ours - theirs).square().mean() for ours, theirs in pairs)
"""


def recipe_of(
    tiny: Recipe, root: Path, head: HeadName, groups: int | None, norm_eval: bool = True
) -> Recipe:
    """Every distillation term that the head has, on images of mixed sizes."""
    bins = head == "gfl"
    weights = LossWeights(softmax=0.75, ld=bins * 0.5, ld_region=bins * 0.25)
    data = replace(tiny.data, root=root, size=replace(tiny.data.size, short_side=48, long_side=80))
    model = replace(tiny.model, head=head, norm_eval=norm_eval, strides=(8, 16, 32, 64))
    changes = {"model": model, "data": data, "weights": weights, "images_per_group": groups}
    return replace(tiny, batch_size=IMAGES, **changes)


def batch_of(recipe: Recipe, share: tuple[int, int] = (0, 1)) -> Batch:
    dataset = training_data(recipe.data, recipe.seed)
    groups = recipe.images_per_group
    known = {"share": share, "images_per_group": groups, "size": dataset.size}
    (keys,) = TrainingBatches(dataset.images, recipe.batch_size, recipe.seed, 0, 1, **known)
    return collate([dataset[key] for key in keys], dataset.size)


def teacher_of(tiny_detector: Callable[..., Detector]) -> Detector:
    found = tiny_detector(NAMES, seed=5, strides=(8, 16, 32, 64))
    with torch.no_grad():
        found.head.cls.weight *= 30
    return found.requires_grad_(False)


def learn(
    recipe: Recipe, teacher: Detector, batch: Batch, wrap: Callable[..., nn.Module] = lambda x: x
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Unweighted terms, gradients and buffers after the backward pass of a student."""
    student = build_student(recipe, NAMES).train()
    with torch.no_grad():
        student.head.cls.weight *= 30  # scores that differ between images
    network, said = wrap(student), None
    if recipe.accumulate > 1:
        said = InParts(network, batch, recipe, None, lambda part: None)
    teaching = teaching_in_parts(live_teaching(teacher), recipe.accumulate)
    output = said and said.output
    values = compute_terms(network, teaching, batch, recipe, recipe.weights, output=output).values
    sum(getattr(recipe.weights, name) * x for name, x in values.items()).backward()
    if said is not None:
        said.backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    return {n: x.detach() for n, x in values.items()}, gradients, dict(student.named_buffers())


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each to that part of its largest value; gradients are sums of many that nearly cancel."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        difference = (found[name] - value).abs().max()
        assert difference <= tolerance * value.abs().max() + 1e-8, (name, difference)


@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("head", HEADS)
def test_it_is_the_step_of_all_images_at_once(
    tiny_recipe: Recipe,
    mixed_root: Path,
    tiny_detector: Callable[..., Detector],
    head: HeadName,
    groups: int | None,
) -> None:
    recipe = recipe_of(tiny_recipe, mixed_root, head, groups)
    batch, teacher = batch_of(recipe), teacher_of(tiny_detector)
    terms, gradients, _ = learn(recipe, teacher, batch)
    for count in (2, 4):
        found = learn(replace(recipe, accumulate=count), teacher, batch)
        assert_close(found[0], terms, 1e-6)
        assert_close(found[1], gradients, 1e-5)
        ours, theirs = (torch.cat([x.flatten() for x in g.values()]) for g in (found[1], gradients))
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_a_batch_norm_that_learns_does_so_once(
    tiny_recipe: Recipe, mixed_root: Path, tiny_detector: Callable[..., Detector]
) -> None:
    recipe = recipe_of(tiny_recipe, mixed_root, "gfl", 2, norm_eval=False)
    batch, teacher = batch_of(recipe), teacher_of(tiny_detector)
    expected = learn(recipe, teacher, batch)
    found = learn(replace(recipe, accumulate=2), teacher, batch)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, 1e-5)
    assert any(name.endswith("num_batches_tracked") for name in found[2])


class Recorder(nn.Module):
    """A student that draws numbers, and what it was asked and said."""

    def __init__(self, student: Detector) -> None:
        super().__init__()
        self.student, self.dropout = student, nn.Dropout(0.5)
        self.asked: list[int] = []
        self.said: list[Tensor] = []

    def forward(self, images: Tensor) -> DenseOutput:
        self.asked.append(len(images))
        output = self.student(images)
        output = replace(output, cls_logits=self.dropout(output.cls_logits))
        self.said.append(output.cls_logits.detach())
        return output


def test_a_part_says_the_same_twice_and_never_sees_more(
    tiny_recipe: Recipe, mixed_root: Path, tiny_detector: Callable[..., Detector]
) -> None:
    recipe = replace(recipe_of(tiny_recipe, mixed_root, "gfl", None), accumulate=4)
    network = Recorder(build_student(recipe, NAMES)).train()
    batch, taught = batch_of(recipe), []
    said = InParts(network, batch, recipe, None, torch.manual_seed)
    assert all(not x.is_leaf or x.requires_grad for x in said.output.per_location().values())
    teacher = live_teaching(teacher_of(tiny_detector))
    teaching = teaching_in_parts(lambda x: taught.append(len(x.pixels)) or teacher(x), 4)
    terms = compute_terms(
        network, teaching, batch, recipe, recipe.weights, output=said.output
    ).values
    torch.stack([*terms.values()]).sum().backward()
    said.backward()
    assert network.asked == [2] * 8 and taught == [2] * 4
    for first, second in zip(network.said[:4], network.said[4:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(network.said[0] == 0, network.said[1] == 0)


@pytest.fixture
def imitating(
    tiny_recipe: Recipe, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    """A run with a term of one's own that learns."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_parts.py").write_text(IMITATION)
    return replace(
        tiny_recipe,
        teacher=tiny_teacher,
        terms=("my_parts:Imitation=0.1",),
        images_per_group=1,
        steps=3,
        optimisation=replace(tiny_recipe.optimisation, optimizer="sgd"),
    )


def runs(recipe: Recipe) -> list[Path]:
    """A run of all images at once, and one of two parts."""
    changes = [{"accumulate": n, "out": recipe.out / str(n)} for n in (1, 2)]
    return [train(replace(recipe, **change), progress=False).out for change in changes]


# A term of the pyramids' maps, and those that follow the student's head too.
OWN = [("my_parts:Imitation=0.1",), ("bckd.losses.crosskd:CrossKD=0.1",)]
OWN += [("bckd.losses.crosskd:CrossBCKD=0.1",)]


@pytest.mark.parametrize("own", OWN)
def test_a_run(imitating: Recipe, own: tuple[str, ...]) -> None:
    """Student, optimiser and what the term has learnt; the log's gradients do not matter."""
    whole, parts = runs(replace(imitating, log_gradients=True, terms=own))
    for name in (STUDENT, STATE):
        expected, found = load_file(whole / name), load_file(parts / name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("own", OWN[:2])
def test_a_run_in_bf16(imitating: Recipe, own: tuple[str, ...]) -> None:
    """Whose gradients are kept in it too: terms alike, to its rounding."""
    logs = [read_log(out) for out in runs(replace(imitating, precision="bf16", terms=own))]
    for ours, theirs in zip(*logs, strict=True):
        if "unweighted" in ours:
            assert ours["unweighted"] == pytest.approx(theirs["unweighted"], rel=0.02)


def _process(rank: int, folder: str, recipe: Recipe, teacher: Detector) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    found = learn(recipe, teacher, batch_of(recipe, (rank, 2)), shared)
    torch.save(found[1], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_of_two_processes(
    tiny_recipe: Recipe,
    mixed_root: Path,
    tiny_detector: Callable[..., Detector],
    tmp_path: Path,
) -> None:
    """Each takes its images in parts, and the mean of their gradients is that of one process."""
    recipe, teacher = recipe_of(tiny_recipe, mixed_root, "gfl", 2), teacher_of(tiny_detector)
    _, expected, _ = learn(recipe, teacher, batch_of(recipe))
    arguments = (str(tmp_path), replace(recipe, accumulate=2), teacher)
    start_processes(_process, arguments, 2)
    for rank in range(2):
        assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, 1e-5)


def test_parts_that_are_not_equal(tiny_recipe: Recipe) -> None:
    with pytest.raises(InputError, match="accumulate is 3; expected a divisor of the 4 images"):
        train(replace(tiny_recipe, accumulate=3), progress=False)
    parts = replace(tiny_recipe, accumulate=2, images_per_group=4)
    with pytest.raises(InputError, match="images_per_group is 4 where a process has 2 images at"):
        train(parts, progress=False)

"""A run is the same run on any number of processes: real ones, joined by Gloo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, collate
from bckd.groups import group_count, group_divisor, sum_in_group
from bckd.models.detector import Detector, HeadName
from bckd.recipes import LossWeights, Recipe
from bckd.structures import Batch
from bckd.system.distributed import mean_over_processes
from bckd.system.errors import InputError
from bckd.teachers.targets import live_teaching
from bckd.training.data import training_data
from bckd.training.student import build_student
from bckd.training.terms import compute_terms
from tests.processes import start_processes

HEADS: tuple[HeadName, ...] = get_args(HeadName)
PROCESSES, IMAGES = 4, 8
CASES = [(head, size) for head in HEADS for size in (None, 1, 2, 4)]


def recipe_of(tiny: Recipe, root: Path, head: HeadName, images_per_group: int | None) -> Recipe:
    """Every distillation term that the head has, on images of mixed sizes."""
    bins = head == "gfl"
    weights = LossWeights(softmax=0.75, ld=bins * 0.5, ld_region=bins * 0.25)
    data = replace(tiny.data, root=root, size=replace(tiny.data.size, short_side=48, long_side=80))
    # More levels than some of the groups have positives on. BatchNorm is fixed: a group of 4
    # images lies on two processes.
    strides = (8, 16, 32, 64)
    model = replace(tiny.model, head=head, norm_eval=True, strides=strides)
    return replace(
        tiny,
        model=model,
        data=data,
        weights=weights,
        batch_size=IMAGES,
        images_per_group=images_per_group,
    )


def share_of(recipe: Recipe, dataset: CocoDataset, process: int, processes: int) -> Batch:
    sampler = TrainingBatches(
        dataset.images,
        recipe.batch_size,
        recipe.seed,
        0,
        1,
        share=(process, processes),
        images_per_group=recipe.images_per_group,
        size=dataset.size,
    )
    (keys,) = sampler
    return collate([dataset[key] for key in keys], dataset.size)


def terms_and_gradients(
    recipe: Recipe, teacher: Detector, process: int, processes: int
) -> dict[str, Tensor]:
    """Unweighted terms and the gradient of their weighted sum, mean over processes."""
    dataset = training_data(recipe.data, recipe.seed)
    names = dataset.annotations.class_names
    batch = share_of(recipe, dataset, process, processes)
    student = build_student(recipe, names).train()
    with torch.no_grad():
        student.head.cls.weight *= 30  # scores that differ between images
    terms = compute_terms(student, live_teaching(teacher), batch, recipe, recipe.weights).values
    sum(getattr(recipe.weights, name) * x for name, x in terms.items()).backward()
    found = {f"term {name}": x.detach() for name, x in terms.items()}
    found |= {name: p.grad for name, p in student.named_parameters()}
    # All at once: processes that wait for one another hundreds of times take longest for that.
    mean = mean_over_processes(torch.cat([x.flatten() for x in found.values()]))
    parts = mean.split([x.numel() for x in found.values()])
    return {name: part.view_as(x) for (name, x), part in zip(found.items(), parts, strict=True)}


def _process(rank: int, folder: str, recipes: list[Recipe], teacher: Detector) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    found = [terms_and_gradients(recipe, teacher, rank, PROCESSES) for recipe in recipes]
    rows = torch.tensor([[1.0, rank], [10.0, 5.0]])
    found.append({str(size): sum_in_group(rows, size) for size in (None, 1, 2, 4)})
    found[-1]["count"] = torch.tensor([group_count(2, size) for size in (None, 1, 2, 4)])
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def teacher(tiny_detector: Callable[..., Detector]) -> Detector:
    found = tiny_detector(tuple("rgb"), seed=5, strides=(8, 16, 32, 64))
    with torch.no_grad():
        found.head.cls.weight *= 30
    return found.requires_grad_(False)


def half_labelled(root: Path, copy: Path) -> Path:
    """The data set, of which half the images have no labels."""
    shutil.copytree(root, copy)
    path = copy / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["labelled"] = image["id"] % 4 < 2
    known = {image["id"] for image in content["images"] if image["labelled"]}
    content["annotations"] = [x for x in content["annotations"] if x["image_id"] in known]
    path.write_text(json.dumps(content))
    return copy


def test_four_processes_have_the_terms_and_gradients_of_one(
    tiny_recipe: Recipe, mixed_root: Path, teacher: Detector, tmp_path: Path
) -> None:
    half = half_labelled(mixed_root, tmp_path / "half")
    cases = [(mixed_root, *case) for case in CASES]
    cases += [(half, head, 2) for head in HEADS] + [(half, "gfl", None), (half, "retinanet", None)]
    recipes = [recipe_of(tiny_recipe, *case) for case in cases]
    arguments = (str(tmp_path), recipes, teacher)
    start_processes(_process, arguments, PROCESSES)
    shared = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    for number, (case, recipe) in enumerate(zip(cases, recipes, strict=True)):
        alone = terms_and_gradients(recipe, teacher, 0, 1)
        for name, expected in alone.items():
            # Of a tensor's largest value; gradients are sums of many that nearly cancel.
            tolerance = (1e-6 if name.startswith("term") else 1e-5) * expected.abs().max() + 1e-8
            for found in shared:
                difference = (found[number][name] - expected).abs().max()
                assert difference <= tolerance, (case, name, difference)
    for rank, found in enumerate(shared):
        own = torch.tensor([[1.0, rank], [10.0, 5.0]])
        pairs = torch.tensor([11.0, rank + 5]).expand(2, 2)
        both = torch.tensor([22.0, 10 + 4 * (rank // 2) + 1]).expand(2, 2)
        every = torch.tensor([44.0, 26]).expand(2, 2)
        expected = {"1": own, "2": pairs, "4": both, "None": every}
        for name, value in expected.items():
            assert torch.equal(found[-1][name], value), name
        assert found[-1]["count"].tolist() == [0.25, 2, 1, 0.5]


@pytest.mark.parametrize("head", ["gfl", "atss"])  # the objects are all of one level for FCOS
def test_groups_matter(
    tiny_recipe: Recipe, mixed_root: Path, teacher: Detector, head: HeadName
) -> None:
    """The fewer images are asked for a positive, the fewer levels are taught: the same batch."""
    recipe = recipe_of(tiny_recipe, mixed_root, head, None)
    batch = share_of(recipe, training_data(recipe.data, recipe.seed), 0, 1)
    student = build_student(recipe, tuple("rgb"))

    def terms(size: int | None) -> dict[str, Tensor]:
        grouped = replace(recipe, images_per_group=size)
        return compute_terms(student, live_teaching(teacher), batch, grouped, recipe.weights).values

    found = {size: terms(size) for size in (None, 1, 2)}
    for name in ("binary", "iou", "softmax"):
        assert found[1][name] < 0.999 * found[None][name], name
        assert found[1][name] <= found[2][name] <= found[None][name], name


def test_a_batch_that_groups_do_not_fill_is_refused() -> None:
    with pytest.raises(
        InputError, match="images_per_group is 2; expected a divisor of the batch's 3"
    ):
        sum_in_group(torch.ones(3), 2)


def test_a_divisor_is_at_least_so_much_in_the_mean_of_groups() -> None:
    """One positive in two groups of two images: each would divide by 1 at least, both by 2."""
    one = torch.tensor(1.0)
    assert group_divisor(one, 4, 2, least=1.0) == 2
    assert group_divisor(one, 4, None, least=1.0) == 1
    assert group_divisor(3 * one, 4, 2, least=1.0) == 3  # what is above it does not ask for groups
    assert group_divisor(one, 4, 1, least=1.0, added=0.5) == 4
    assert group_divisor(one, 4, 2, added=0.5) == 2

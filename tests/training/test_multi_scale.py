"""Training images of several sizes: drawn by seed, epoch and image alone, and padded by group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, Key
from bckd.image_size import ImageSize
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.system.errors import InputError
from bckd.teachers.targets import TeacherTargets
from bckd.training.data import training_data
from bckd.training.loading import batches_of
from bckd.training.teacher import make_teaching
from bckd.training.trainer import train
from bckd.zoo.unfinished import STUDENT

LOW, HIGH, LONG = 40, 72, 160


@pytest.fixture
def mixed(tiny_recipe: Recipe, mixed_root: Path) -> Recipe:
    """A recipe for images of many shapes, at short sides between 40 and 72 pixels."""
    size = ImageSize(short_side=56, long_side=LONG)
    data = replace(
        tiny_recipe.data, root=mixed_root, val_images="train", size=size, multi_scale=(LOW, HIGH)
    )
    return replace(tiny_recipe, data=data)


@pytest.fixture
def images(mixed: Recipe) -> CocoDataset:
    return training_data(mixed.data, mixed.seed)


def keys(images: CocoDataset, first: int = 0, last: int = 30, **changes: Any) -> list[list[Key]]:
    known = {"images_per_group": 2, "size": images.size, "multi_scale": (LOW, HIGH)}
    return list(TrainingBatches(images.images, 4, 7, first, last, **known | changes))


def test_a_size_follows_from_seed_epoch_and_image(images: CocoDataset) -> None:
    """Not from the batch, the process or the step at which a run was resumed."""
    drawn = {(key.epoch, key.image): key.short_side for batch in keys(images) for key in batch}
    others = [keys(images, 11), keys(images, two_canvases=True)]
    others += [keys(images, share=(process, 2)) for process in (0, 1)]
    for key in (key for found in others for batch in found for key in batch):
        assert drawn.get((key.epoch, key.image), key.short_side) == key.short_side
    assert min(drawn.values()) >= LOW and max(drawn.values()) <= HIGH
    assert len(set(drawn.values())) > 20
    assert len({side for (_, image), side in drawn.items() if image == 3}) > 2


def test_both_ends_of_the_range_are_drawn(images: CocoDataset) -> None:
    found = keys(images, multi_scale=(LOW, LOW + 1))
    assert {key.short_side for batch in found for key in batch} == {LOW, LOW + 1}


def test_a_sample_is_the_image_at_its_size(images: CocoDataset) -> None:
    for side in (LOW, HIGH):
        sized = training_data_at(images, side)
        ours, expected = images[Key(2, 5, None, side)], sized[Key(2, 5)]
        assert torch.equal(ours.image, expected.image) and torch.equal(ours.boxes, expected.boxes)
        assert min(ours.image.shape[1:]) == side


def training_data_at(images: CocoDataset, side: int) -> CocoDataset:
    size = replace(images.size, short_side=side)
    return CocoDataset(
        images.folder, images.annotations, size, images.flip, images.seed, skip_empty=True
    )


def test_a_group_is_padded_to_its_largest(mixed: Recipe, images: CocoDataset) -> None:
    recipe = replace(mixed, images_per_group=2, steps=12)
    canvases = set()
    batches: list[Batch] = list(batches_of(recipe, images, 0, pinned=False))
    for batch in batches:
        for pair in (slice(0, 2), slice(2, 4)):
            height, width = batch.padded_sizes[pair].amax(dim=0).tolist()
            assert set(batch.canvases[pair]) == {(height, width)}
            canvases.add((height, width))
    assert len(canvases) > 4


def test_two_canvases_hold_the_largest_of_all_sizes(mixed: Recipe, images: CocoDataset) -> None:
    recipe = replace(mixed, data=replace(mixed.data, two_canvases=True), steps=12)
    shapes = {tuple(b.pixels.shape[2:]) for b in batches_of(recipe, images, 0, pinned=False)}
    assert shapes == {(96, LONG), (LONG, 96)}, "72 is padded to 96"


def test_stored_answers_of_a_teacher_are_not_used(tiny_recipe: Recipe, tiny_teacher: Path) -> None:
    recipe = replace(tiny_recipe, teacher=tiny_teacher)
    scaled = replace(recipe, data=replace(recipe.data, multi_scale=(48, 64)))
    teachings = []
    for each in (recipe, scaled):
        data = training_data(each.data, each.seed)
        teachings.append(make_teaching(each, data, torch.device("cpu"), progress=False))
    assert [isinstance(x, TeacherTargets) for x in teachings] == [True, False]


def test_a_resumed_run_sees_the_same_sizes(
    mixed: Recipe, stop_at_first_state: Callable[..., None]
) -> None:
    recipe = replace(mixed, images_per_group=2)
    stop_at_first_state(lambda: train(recipe, progress=False))
    train(recipe, resume=True, progress=False)
    whole = train(replace(recipe, out=recipe.out / "whole"), progress=False).out
    plain = replace(recipe, data=replace(recipe.data, multi_scale=None), out=recipe.out / "plain")
    found = [
        (out / STUDENT).read_bytes()
        for out in (recipe.out, whole, train(plain, progress=False).out)
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("sides", [(64, 48), (48, 200)])
def test_sides_that_are_none(tiny_recipe: Recipe, sides: tuple[int, int]) -> None:
    recipe = replace(tiny_recipe, data=replace(tiny_recipe.data, multi_scale=sides))
    with pytest.raises(InputError, match="data.multi_scale is .* expected the smaller side first"):
        train(recipe, progress=False)

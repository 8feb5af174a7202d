"""Batches from processes that load images, and the shared memory that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bckd.datasets import batch_loader as module
from bckd.datasets.annotations import read_annotations
from bckd.datasets.batch_loader import (
    batch_loader,
    check_shared_memory,
    workers_that_fit,
)
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset
from bckd.image_size import ImageSize
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training.data import training_data
from bckd.training.loading import batches_of, held_ready
from bckd.training.trainer import train


@pytest.fixture
def data(custom_root: Path) -> CocoDataset:
    annotations = read_annotations(custom_root / "annotations" / "instances_train.json")
    return CocoDataset(custom_root / "train", annotations, ImageSize(48, 80, pad_multiple=32))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Has shared memory so many bytes free."""

    def have(size: int) -> None:
        monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))

    return have


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines told since it was asked last."""
    return lambda: capsys.readouterr().out.splitlines()


def order_of(data: CocoDataset, steps: int) -> TrainingBatches:
    return TrainingBatches(data.images, 2, 0, 0, steps, size=data.size)


class Broken(torch.utils.data.Dataset[int]):
    """Whose third sample can't be had."""

    size = None

    def __getitem__(self, key: int) -> int:
        if key == 2:
            raise InputError("image 2 is gone")
        return key


@pytest.mark.parametrize("end", ["error", "break", "close"])
def test_processes_end_with_the_iterator(end: str) -> None:
    """Also where somebody keeps the error, which a cycle of references may do for long."""
    keys = [[n] for n in range(6)]
    loader = batch_loader(Broken(), keys, 2)
    loader.collate_fn = list
    before, batches = {*active_children()}, iter(loader)
    assert next(batches) == [0] and {*active_children()} - before
    if end == "error":
        with pytest.raises(InputError, match="image 2 is gone") as kept:
            list(batches)
        assert kept.value.__traceback__ is not None
    elif end == "close":
        batches.close()
    else:
        del batches
    assert not {*active_children()} - before


@pytest.mark.parametrize("prefetch", [1, 3])
def test_processes_load_what_one_does(data: CocoDataset, prefetch: int) -> None:
    order = order_of(data, 7)
    largest = order.largest_canvas
    alone = list(batch_loader(data, order, 0))
    several = list(batch_loader(data, order, 2, prefetch))
    assert len(alone) == len(several) == 7
    for ours, theirs in zip(alone, several, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels) and ours.indices == theirs.indices
        assert ours.pixels.dtype == torch.uint8
        assert ours.pixels.shape[2] <= largest[0] and ours.pixels.shape[3] <= largest[1]


def test_batches_of_a_run_that_do_not_fit_are_refused(
    tiny_recipe: Recipe, free: Callable[[int], None]
) -> None:
    """Of 4 x 3 x 64 x 64 pixels each; as many as there are steps, where these are fewer."""
    loading = replace(tiny_recipe.data, workers=2, prefetch=3, cache=False)
    images = training_data(loading, 0)
    size = 4 * 3 * 64 * 64
    for steps, needed in ((20, 6), (4, 4)):
        recipe = replace(tiny_recipe, data=loading, steps=steps)
        assert held_ready(recipe, images, 0) == needed * size
        free(needed * size)
        batches_of(recipe, images, 0, pinned=False).close()
        free(needed * size - 1)
        batches_of(tiny_recipe, images, 0, pinned=False).close()
        with pytest.raises(InputError, match="of batches ready; expected more shared memory"):
            batches_of(recipe, images, 0, pinned=False)


def test_processes_of_a_machine_share_its_memory(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(int(64e6))
    check_shared_memory(int(60e6))
    assert workers_that_fit(4, int(5e6)) == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"has 64 MB free, .* up to 120 MB of batches ready"):
        check_shared_memory(int(60e6))
    assert workers_that_fit(4, int(5e6)) == 3


@pytest.mark.parametrize(
    ("size", "reserved", "expected"), [(60, 0, 3), (59, 0, 2), (60, 1, 2), (60, 41, 0), (9, 10, 0)]
)
def test_an_evaluation_takes_as_many_processes_as_fit(
    free: Callable[[int], None],
    told: Callable[[], list[str]],
    size: int,
    reserved: int,
    expected: int,
) -> None:
    """Beside batches of the training, of 10 bytes each and two a process."""
    free(size)
    assert workers_that_fit(3, 10, reserved) == expected
    lines = told()
    assert len(lines) == (expected < 3)
    assert all("no room for all batches of 3 processes that load images" in x for x in lines)


def test_a_run_whose_batches_fill_it_still_evaluates(
    tiny_recipe: Recipe, free: Callable[[int], None], told: Callable[[], list[str]]
) -> None:
    recipe = replace(tiny_recipe, data=replace(tiny_recipe.data, workers=1, cache=False), steps=2)
    free(2 * 4 * 3 * 64 * 64)
    train(recipe, progress=False)
    assert any("that load images for an evaluation: fewer do, or none" in x for x in told())
    assert (recipe.out / "results.json").is_file()


def test_a_system_without_such_a_folder_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path / "absent")
    check_shared_memory(10**15)
    assert workers_that_fit(5, 10**15) == 5

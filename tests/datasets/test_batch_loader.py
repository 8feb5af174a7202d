"""Batches from processes that load images, and the shared memory that they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bckd.datasets import batch_loader as module
from bckd.datasets.annotations import read_annotations
from bckd.datasets.batch_loader import batch_loader, check_shared_memory
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset
from bckd.image_size import ImageSize
from bckd.system.errors import InputError


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


def order_of(data: CocoDataset, steps: int) -> TrainingBatches:
    return TrainingBatches(data.images, 2, 0, 0, steps, size=data.size)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_processes_load_what_one_does(data: CocoDataset, prefetch: int) -> None:
    order = order_of(data, 7)
    largest = (2, *order.largest_canvas)
    alone = list(batch_loader(data, order, largest, 0))
    several = list(batch_loader(data, order, largest, 2, prefetch))
    assert len(alone) == len(several) == 7
    for ours, theirs in zip(alone, several, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels) and ours.indices == theirs.indices
        assert ours.pixels.dtype == torch.uint8
        assert ours.pixels.shape[2] <= largest[1] and ours.pixels.shape[3] <= largest[2]


def test_batches_that_do_not_fit_in_shared_memory_are_refused(
    data: CocoDataset, free: Callable[[int], None]
) -> None:
    """Of 2 x 3 x 96 x 96 pixels each; as many as there are steps, where these are fewer."""
    size, largest = 2 * 3 * 96 * 96, (2, 96, 96)
    for steps, needed in ((20, 6), (4, 4)):
        free(needed * size)
        batch_loader(data, order_of(data, steps), largest, 2, 3)
        free(needed * size - 1)
        batch_loader(data, order_of(data, steps), largest, 0)
        with pytest.raises(InputError, match="of batches ready; expected more shared memory"):
            batch_loader(data, order_of(data, steps), largest, 2, 3)


def test_processes_of_a_machine_share_its_memory(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(int(64e6))
    check_shared_memory(int(30e6), 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"has 64 MB free, .* up to 120 MB of batches ready"):
        check_shared_memory(int(30e6), 2)


def test_a_system_without_such_a_folder_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path / "absent")
    check_shared_memory(10**15, 2)

"""Batches from processes that load images, and the shared memory that these hand them over in."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from torch.utils.data import DataLoader

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, Key, collate
from bckd.datasets.processes import start_process
from bckd.structures import Batch
from bckd.system.errors import InputError

SHARED_MEMORY = Path("/dev/shm")  # where Linux has it; Docker gives a container 64 MB


def batch_loader(
    dataset: CocoDataset,
    order: TrainingBatches | list[list[Key]],
    largest: tuple[int, int, int],
    workers: int,
    prefetch: int = 2,
    pinned: bool = False,
) -> DataLoader[Batch]:
    """The batches of the keys in `order`, to be gone through once.

    Args:
        largest: images, height and width that a batch has at most.
        workers: processes that load, for as long as the loader's iterator lives; 0: this one.
        prefetch: batches that each of them holds ready.
        pinned: hand over what moves in page-locked memory, from which a GPU copies by itself.

    Raises:
        InputError: the batches that are held ready don't fit in shared memory.
    """
    if workers:
        images, height, width = largest
        check_shared_memory(3 * images * height * width, min(workers * prefetch, len(order)))
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # the stubs leave out what collate_fn makes of samples
        batch_sampler=order,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        collate_fn=partial(collate, size=dataset.size),
        worker_init_fn=start_process,
        pin_memory=pinned,
    )


def check_shared_memory(batch_bytes: int, batches: int) -> None:
    """Refuse more batches than fit: a process that writes one too many ends by a bus error.

    Each process that torchrun started on this machine holds as many.

    Raises:
        InputError: saying how much there is, what is needed, and what to do.
    """
    if not SHARED_MEMORY.is_dir():
        return
    needed = batch_bytes * batches * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise InputError(
            f"{SHARED_MEMORY} has {_in_mb(free)} free, where processes that load images would hold "
            f"up to {_in_mb(needed)} of batches ready; expected more shared memory (docker run "
            f"--shm-size), fewer of them (--data.workers) or fewer batches each (--data.prefetch)"
        )


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"

"""Batches from processes that load images, and the shared memory that these hand them over in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from torch.utils.data import DataLoader

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, Key, collate
from bckd.datasets.processes import start_process
from bckd.structures import Batch
from bckd.system.errors import InputError
from bckd.system.telling import tell

SHARED_MEMORY = Path("/dev/shm")  # where Linux has it; Docker gives a container 64 MB
PREFETCH = 2  # batches that a process holds ready, where nothing else is asked


def batch_loader(
    dataset: CocoDataset,
    order: TrainingBatches | list[list[Key]],
    workers: int,
    prefetch: int = PREFETCH,
    pinned: bool = False,
) -> BatchLoader:
    """The batches of the keys in `order`, to be gone through once.

    Args:
        workers: processes that load, for as long as the loader's iterator lives; 0: this one.
        prefetch: batches that each of them holds ready, in shared memory.
        pinned: hand over what moves in page-locked memory, from which a GPU copies by itself.
    """
    return BatchLoader(
        dataset,  # type: ignore[arg-type]  # the stubs leave out what collate_fn makes of samples
        batch_sampler=order,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        collate_fn=partial(collate, size=dataset.size),
        worker_init_fn=start_process,
        pin_memory=pinned,
    )


class BatchLoader(DataLoader[Batch]):
    """One whose processes end with its iterator, whoever keeps an error that came of it."""

    def __iter__(self) -> Generator[Batch, None, None]:  # type: ignore[override]
        return _each(super().__iter__(), by_processes=self.num_workers > 0)


def _each(batches: Iterator[Batch], by_processes: bool) -> Generator[Batch, None, None]:
    try:
        yield from batches
    except Exception as error:
        if not by_processes:
            raise
        # Between here and the process that failed there are torch's frames alone, which hold the
        # iterator and with it all processes; what happened in that one is in the error's text.
        raise error.with_traceback(None) from error.__cause__
    finally:
        del batches


def bytes_of_batch(images: int, canvas: tuple[int, int]) -> int:
    """What a batch of so many images takes, of this height and width."""
    height, width = canvas
    return 3 * images * height * width


def check_shared_memory(needed: int) -> None:
    """Refuse more batches than fit: a process that writes one too many ends by a bus error.

    Args:
        needed: bytes; each process that torchrun started on this machine needs as many.

    Raises:
        InputError: saying how much there is, what is needed, and what to do.
    """
    needed *= _processes_here()
    free = _free()
    if free is not None and needed > free:
        raise InputError(
            f"{SHARED_MEMORY} has {_in_mb(free)} free, where processes that load images would hold "
            f"up to {_in_mb(needed)} of batches ready; expected more shared memory (docker run "
            f"--shm-size), fewer of them (--data.workers) or fewer batches each (--data.prefetch)"
        )


def workers_that_fit(workers: int, batch: int, reserved: int = 0) -> int:
    """As many of the processes as there is shared memory for `PREFETCH` batches of each; told.

    Args:
        batch: its bytes, at most.
        reserved: bytes that others may need besides, of each process that torchrun started here.
    """
    free = _free()
    if not workers or free is None:
        return workers
    fitting = (free // _processes_here() - reserved) // (PREFETCH * batch)
    if fitting >= workers:
        return workers
    tell(
        f"{SHARED_MEMORY} has no room for all batches of {workers} processes that load images for "
        f"an evaluation: fewer do, or none (docker run --shm-size gives more)"
    )
    return max(fitting, 0)


def _free() -> int | None:
    """Bytes of shared memory; None where that has no place of its own."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def _processes_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"

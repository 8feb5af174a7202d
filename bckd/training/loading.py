"""The batches of a run, loaded by processes of their own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial

from torch.utils.data import DataLoader

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, collate
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.system.distributed import process_count, process_index
from bckd.system.interruption import leave_signals, report_in_iterator


def batches(recipe: Recipe, dataset: CocoDataset, first: int) -> Generator[Batch, None, None]:
    """The batches of the steps from `first` on; closing it ends the processes that load them."""
    steps, share = (first, recipe.steps), (process_index(), process_count())
    order = TrainingBatches(
        dataset.images,
        recipe.batch_size,
        recipe.seed,
        *steps,
        share=share,
        images_per_group=recipe.images_per_group,
        size=dataset.size,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=recipe.data.workers,
        collate_fn=partial(collate, size=dataset.size),
        worker_init_fn=leave_signals,
    )
    loaded = each(iter(loader))
    report_in_iterator()
    return loaded


def each(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    yield from batches

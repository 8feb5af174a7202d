"""The batches of a run's steps, from processes that load them ahead."""

from __future__ import annotations

from collections.abc import Generator

from bckd.datasets.batch_loader import batch_loader, bytes_of_batch, check_shared_memory
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.system.distributed import process_count, process_index
from bckd.system.interruption import report_in_iterator


def batches_of(
    recipe: Recipe, dataset: CocoDataset, first: int, pinned: bool
) -> Generator[Batch, None, None]:
    """The batches of the steps from `first` on; closing it ends the processes that load them.

    Args:
        pinned: in page-locked memory, for a GPU.

    Raises:
        InputError: shared memory is too small for them.
    """
    order, data = _order(recipe, dataset, first), recipe.data
    check_shared_memory(_ready(recipe, order))
    batches = iter(batch_loader(dataset, order, data.workers, data.prefetch, pinned))
    report_in_iterator()
    return batches


def held_ready(recipe: Recipe, dataset: CocoDataset, first: int) -> int:
    """Bytes of shared memory that these batches take at most, as they lie ready."""
    return _ready(recipe, _order(recipe, dataset, first))


def _order(recipe: Recipe, dataset: CocoDataset, first: int) -> TrainingBatches:
    return TrainingBatches(
        dataset.images,
        recipe.batch_size,
        recipe.seed,
        first,
        recipe.steps,
        share=(process_index(), process_count()),
        images_per_group=recipe.images_per_group,
        size=dataset.size,
        two_canvases=recipe.data.two_canvases,
        multi_scale=recipe.data.multi_scale,
    )


def _ready(recipe: Recipe, order: TrainingBatches) -> int:
    batches = min(recipe.data.workers * recipe.data.prefetch, len(order))
    return batches * bytes_of_batch(recipe.batch_size // process_count(), order.largest_canvas)

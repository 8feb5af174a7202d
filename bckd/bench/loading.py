"""Loading: an image by one process, and batches as a run gets them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import torch

from bckd.bench.photographs import COCO_SHAPES, write_photographs
from bckd.bench.results import Line
from bckd.bench.subject import Subject
from bckd.bench.timing import Clock, Spread, timed
from bckd.datasets.coco import CocoDataset, collate
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.training.data import training_data
from bckd.training.loading import batches_of

PART = "loader"
_HOST = torch.device("cpu")
_LONG_SIDE = 640  # pixels of a photograph
_DRAWN = 32  # photographs of one shape


def time_loading(subject: Subject) -> Iterator[Line]:
    """Lines of an image, of a batch put together, and of batches from a run's processes.

    Images come at the preset's size, on a CPU too, as it is there that they are loaded.
    """
    recipe = replace(subject.recipe, data=replace(subject.recipe.data, size=subject.photographs))
    images, workers = recipe.batch_size, recipe.data.workers
    with _data(subject, recipe, COCO_SHAPES) as (recipe, dataset):
        repeat = max(subject.repeat, len(COCO_SHAPES))
        numbers = count()
        one = timed(lambda: dataset[0, next(numbers) % len(dataset)], _HOST, repeat, warm_up=2)
        yield Line(PART, "image, by one process", one, 1)
        samples = [dataset[0, n % len(dataset)] for n in range(images)]
        together = timed(lambda: collate(samples, dataset.size), _HOST, subject.repeat, warm_up=1)
        yield Line(PART, "samples to a batch", together, images)
        yield Line(
            PART,
            f"batch, by {workers} worker processes",
            _batches(subject, recipe, dataset),
            images,
        )


def _batches(subject: Subject, recipe: Recipe, dataset: CocoDataset) -> Spread:
    """Time between two batches, once those are used up that were loaded ahead."""
    clock = Clock(_HOST)
    with closing(batches_of(recipe, dataset, 0, subject.device.type == "cuda")) as loaded:
        for _ in islice(loaded, 2 * recipe.data.workers + 1):
            pass
        clock.mark("start")
        for _ in islice(loaded, subject.repeat):
            clock.mark("batch")
    return Spread.of([seconds for _, seconds in clock.read()])


@contextmanager
def training_batches(subject: Subject) -> Iterator[Iterator[Batch]]:
    """A run's batches on the host; drawn photographs have the canvas's own shape."""
    height, width = subject.canvas
    scale = _LONG_SIDE / max(height, width)
    shape = round(height * scale), round(width * scale)
    with (
        _data(subject, subject.recipe, [shape] * _DRAWN) as (recipe, dataset),
        closing(batches_of(recipe, dataset, 0, subject.device.type == "cuda")) as loaded,
    ):
        yield loaded


@contextmanager
def _data(
    subject: Subject, recipe: Recipe, shapes: Sequence[tuple[int, int]]
) -> Iterator[tuple[Recipe, CocoDataset]]:
    """The training images of a recipe; where they are drawn, the recipe is that of these."""
    with tempfile.TemporaryDirectory(prefix="bckd-bench-") as place:
        if subject.drawn:
            data = replace(recipe.data, root=Path(place))
            recipe = replace(recipe, data=data)
            annotations = data.root / data.train_annotations
            folder = data.root / data.train_images
            write_photographs(folder, annotations, shapes, subject.class_names)
        yield recipe, training_data(recipe.data, recipe.seed, recipe.model.normalisation)

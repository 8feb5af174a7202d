"""Which images form which batch, as a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from bckd.datasets.annotations import ImageEntry
from bckd.datasets.coco import Key
from bckd.image_size import ImageSize

SCALED = 2  # beside (seed, epoch, index), so that sizes are drawn apart from flips


class TrainingBatches(torch.utils.data.Sampler[list[Key | tuple[int, int]]]):
    """Shuffled batches of groups, each of images that are all wide or all tall.

    Grouping by aspect ratio keeps padding small; wider than high is wide, as in mmdetection
    2.28 `datasets/samplers/group_sampler.py` (`DistributedGroupSampler`). The groups of all
    wide and of all tall images are shuffled together. Within an epoch every image is drawn
    once; what the last batch lacks of wide or of tall images is filled up from their
    beginning, so that one tall image among wide ones is drawn `batch_size` times. As nothing but
    (seed, epoch) decides the order, step s is the same batch in a resumed run as in one never
    interrupted.

    Args:
        images: of the data set.
        batch_size: images a batch, of all processes.
        seed: of the order.
        first, last: the steps to yield: first, ..., last - 1.
        share: (process, processes): yield that process's part of every batch, so many images
            in a row.
        images_per_group: a divisor of `batch_size`; None: a batch is one group.
        size: how images are brought to size, for the canvas of each group (see `Key`); None:
            keys are plain (epoch, index).
        two_canvases: a batch is all wide or all tall, and its canvas the largest that such an
            image can need: of all batches there are two.
        multi_scale: smallest and largest short side in pixels; between them that of each image
            is drawn by (seed, epoch, index), as its flip is. There is a `size`, whose own short
            side then plays no part.
    """

    def __init__(
        self,
        images: Sequence[ImageEntry],
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        share: tuple[int, int] = (0, 1),
        images_per_group: int | None = None,
        size: ImageSize | None = None,
        two_canvases: bool = False,
        multi_scale: tuple[int, int] | None = None,
    ) -> None:
        wide = np.array([image.width > image.height for image in images])
        self.kinds = [g for g in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(g)]
        self.batch_size, self.seed, self.first, self.last = batch_size, seed, first, last
        self.process, self.processes = share
        self.images_per_group = batch_size if two_canvases else images_per_group or batch_size
        self.images, self.size, self.multi_scale = images, size, multi_scale
        self.two_canvases = two_canvases
        self.canvases: np.ndarray | None = None  # the largest that each image can need
        if size is not None:
            size = size if multi_scale is None else replace(size, short_side=multi_scale[1])
            canvas = size.largest_canvas if two_canvases else size.canvas
            self.canvases = np.array([canvas(x.height, x.width) for x in images])

    @property
    def largest_canvas(self) -> tuple[int, int]:
        """Height and width that hold the canvases of all groups; there is a `size`."""
        assert self.canvases is not None
        height, width = self.canvases.max(axis=0).tolist()
        return height, width

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return sum(-(-len(kind) // self.batch_size) for kind in self.kinds)

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[Key | tuple[int, int]]]:
        own = self.batch_size // self.processes
        start, step = self.process * own, self.first
        while step < self.last:
            epoch, position = divmod(step, self.per_epoch)
            for batch in self._epoch(epoch)[position : position + self.last - step]:
                yield self._keys(epoch, batch)[start : start + own]
                step += 1

    def _epoch(self, epoch: int) -> np.ndarray:
        """(batches, batch_size) indices of the images."""
        generator = np.random.default_rng((self.seed, epoch))
        parts = []
        for kind in self.kinds:
            order = generator.permutation(kind)
            count = -(-len(order) // self.batch_size)
            parts.append(np.resize(order, count * self.batch_size))
        groups = np.concatenate(parts).reshape(-1, self.images_per_group)
        return groups[generator.permutation(len(groups))].reshape(-1, self.batch_size)

    def _keys(self, epoch: int, batch: np.ndarray) -> list[Key | tuple[int, int]]:
        if self.canvases is None:
            return [(epoch, int(index)) for index in batch]
        sides = self._short_sides(epoch, batch)
        needed = self._canvases_at(batch, sides).reshape(-1, self.images_per_group, 2)
        largest = np.repeat(needed.max(axis=1), self.images_per_group, axis=0)  # of each group
        return [
            Key(epoch, index, tuple(canvas), side)
            for index, canvas, side in zip(batch.tolist(), largest.tolist(), sides, strict=True)
        ]

    def _short_sides(self, epoch: int, batch: np.ndarray) -> list[int | None]:
        """That of each image of the batch, in pixels; None where all have that of `size`."""
        if self.multi_scale is None:
            return [None] * len(batch)
        low, high = self.multi_scale
        generators = (np.random.default_rng((self.seed, epoch, int(n), SCALED)) for n in batch)
        return [int(generator.integers(low, high + 1)) for generator in generators]

    def _canvases_at(self, batch: np.ndarray, sides: list[int | None]) -> np.ndarray:
        """(N, 2) height and width that each image of the batch needs at its short side."""
        assert self.canvases is not None and self.size is not None
        if self.multi_scale is None or self.two_canvases:
            return self.canvases[batch]
        found = []
        for index, side in zip(batch, sides, strict=True):
            image = self.images[index]
            size = self.size if side is None else replace(self.size, short_side=side)
            found.append(size.canvas(image.height, image.width))
        return np.array(found)

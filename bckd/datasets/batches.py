"""Which images form which batch, as a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bckd.datasets.annotations import ImageEntry
from bckd.datasets.coco import Key


class TrainingBatches(torch.utils.data.Sampler[list[Key]]):
    """Shuffled batches, each of images that are all wide or all tall.

    Grouping by aspect ratio keeps padding small. Within an epoch every image is
    drawn once; a group's last batch is filled up from the group's beginning. As
    nothing but (seed, epoch) decides the order, step s is the same batch in a
    resumed run as in one never interrupted.

    Args:
        images: of the data set.
        batch_size: images a batch.
        seed: of the order.
        first, last: the steps to yield: first, ..., last - 1.
        share: (process, processes): yield that process's part of every batch, each
            `processes`-th image of it.
    """

    def __init__(
        self,
        images: Sequence[ImageEntry],
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        wide = np.array([image.width >= image.height for image in images])
        self.groups = [g for g in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(g)]
        self.batch_size, self.seed, self.first, self.last = batch_size, seed, first, last
        self.process, self.processes = share

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return sum(-(-len(group) // self.batch_size) for group in self.groups)

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.first
        while step < self.last:
            epoch, position = divmod(step, self.per_epoch)
            for batch in self._epoch(epoch)[position : position + self.last - step]:
                own = batch[self.process :: self.processes]
                yield [(epoch, int(index)) for index in own]
                step += 1

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng((self.seed, epoch))
        batches = []
        for group in self.groups:
            order = generator.permutation(group)
            count = -(-len(order) // self.batch_size)
            batches.extend(np.resize(order, count * self.batch_size).reshape(count, -1))
        return [batches[i] for i in generator.permutation(len(batches))]

"""What the teacher says of a batch: computed as it comes, or once and looked up.

A frozen teacher says the same of the same image. Where every image has one size and
the only augmentation is the flip, all its answers fit in memory and need computing
once, for any number of students.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from bckd.datasets.coco import CocoDataset, collate
from bckd.models.dense import DenseDetector
from bckd.models.grouped import forward_in_groups, joined
from bckd.structures import Batch, DenseOutput
from bckd.system.precision import computing_in

Teaching = Callable[[Batch], DenseOutput]


def live_teaching(
    teacher: Callable[[Tensor], DenseOutput], autocast: torch.dtype | None = None
) -> Teaching:
    """Run the teacher on every batch.

    Args:
        autocast: what it computes in; None: float32.
    """

    @torch.no_grad()
    def teach(batch: Batch) -> DenseOutput:
        with computing_in(autocast, batch.pixels.device):
            return forward_in_groups(teacher, batch.images, batch.canvases)

    return teach


def teaching_in_parts(teaching: Teaching, count: int) -> Teaching:
    """Ask for equal parts of a batch, one after the other, which needs less memory."""
    if count == 1:
        return teaching

    def teach(batch: Batch) -> DenseOutput:
        return joined([teaching(part) for part in batch.parts(count)])

    return teach


class TeacherTargets:
    """The teacher's dense output of every image of a data set, plain and flipped.

    Two entries an image, computed in a fixed order and batch size, so that two runs,
    or a resumed one, look up exactly the same numbers.
    A * (K + 4 + 4 * bins) * 8 bytes an image in main memory: 247 MB for the scenes' 2000; and
    `feature_bytes` with the pyramid's maps, 344 MB.

    Args:
        teacher: frozen, in eval mode.
        dataset: whose images all have one size (`one_size`) and no augmentations.
        batch_size: images of a forward pass.
        features: the pyramid's maps are kept too.
    """

    def __init__(
        self,
        teacher: DenseDetector,
        dataset: CocoDataset,
        batch_size: int = 16,
        progress: bool = True,
        features: bool = False,
    ) -> None:
        if not dataset.one_size:
            raise ValueError("teacher targets need images of one size")
        if dataset.augmentations:
            raise ValueError("teacher targets need images that are at most flipped")
        device = next(teacher.parameters()).device
        keys = [(i, flipped) for flipped in (False, True) for i in range(len(dataset))]
        starts = range(0, len(keys), batch_size)
        outputs = []
        for start in tqdm(starts, desc="teacher", leave=False, disable=not progress):
            samples = [dataset.sample(*key) for key in keys[start : start + batch_size]]
            with torch.no_grad():
                output = teacher(collate(samples, dataset.size).to(device).images)
            outputs.append(output if features else replace(output, features=()))
        self.count = len(dataset)
        self.locations = outputs[0].locations
        said = [output.per_location() for output in outputs]
        self.values = {name: torch.cat([x[name].cpu() for x in said]) for name in said[0]}
        maps = zip(*(output.features for output in outputs), strict=True)
        self.features = [torch.cat([x.cpu() for x in level]) for level in maps]

    def __call__(self, batch: Batch) -> DenseOutput:
        """The dense output of a batch of the data set."""
        pairs = zip(batch.indices, batch.flipped, strict=True)
        rows = torch.tensor([index + self.count * flipped for index, flipped in pairs])
        sent = partial(_rows_on, batch.pixels.device, rows)
        found: dict[str, Any] = {name: sent(value) for name, value in self.values.items()}
        features = tuple(map(sent, self.features))
        return DenseOutput(locations=self.locations, features=features, **found)


def _rows_on(device: torch.device, rows: Tensor, values: Tensor) -> Tensor:
    """These rows on a device: to a GPU from page-locked memory, so that the host need not wait."""
    pinned = device.type == "cuda"
    shape = (len(rows), *values.shape[1:])
    found = torch.empty(shape, dtype=values.dtype, pin_memory=pinned)
    torch.index_select(values, 0, rows, out=found)
    return found.to(device, non_blocking=pinned)


@torch.no_grad()
def feature_bytes(teacher: DenseDetector, dataset: CocoDataset) -> int:
    """The main memory that the pyramid's maps take of every image of a data set, both ways round.

    Args:
        dataset: whose images all have one size.
    """
    device = next(teacher.parameters()).device
    features = teacher(dataset.batch([0]).to(device).images).features
    return 2 * len(dataset) * sum(level.nbytes for level in features)

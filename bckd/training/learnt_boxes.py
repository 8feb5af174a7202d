"""Boxes that a detector would never learn: no location of its grid is positive for them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bckd.datasets.coco import CocoDataset
from bckd.models.detector import DetectorConfig
from bckd.models.heads import HEADS
from bckd.models.supervision import assign
from bckd.structures import DenseOutput, GroundTruth, Locations
from bckd.system.distributed import apart
from bckd.system.telling import tell_some

IMAGES = 200  # that are looked at: an image of COCO's size takes some hundredths of a second


def tell_unlearnt(config: DetectorConfig, dataset: CocoDataset) -> None:
    """Tell which boxes of a training set, as they are resized, have no positive location.

    Of a large set a sample is looked at, evenly spread.

    Args:
        config: the student's, resolved.
    """
    step = -(-len(dataset) // IMAGES)
    looked_at = range(0, len(dataset), step)
    with apart():  # on the CPU, where processes with GPUs don't talk
        found = [place for index in looked_at for place in _unlearnt(config, dataset, index)]
    sample = f" on {len(looked_at)} of {len(dataset)} images" if step > 1 else ""
    tell_some(
        f"{dataset.annotations.path}: boxes{sample} that no location learns ({{}}), with strides "
        f"{', '.join(map(str, config.strides))} and at this --data.size",
        found,
    )


def _unlearnt(config: DetectorConfig, dataset: CocoDataset, index: int) -> list[str]:
    objects = dataset.resized_objects(index)
    truth = GroundTruth.from_lists([objects.boxes], [objects.labels], [objects.crowd])
    canvas = dataset.canvas(index)
    locations = _locations(config, canvas)
    count = len(dataset.annotations.class_names)
    output = DenseOutput(
        cls_logits=torch.zeros(()).expand(1, len(locations.centres), count),
        boxes=torch.zeros(()).expand(1, len(locations.centres), 4),
        locations=locations,
    )
    assignment = assign(config.head, output, truth, torch.tensor([canvas]))
    taught = assignment.boxes[assignment.positive]  # (P, 4)
    learnt = (objects.boxes[:, None] == taught).all(dim=-1).any(dim=-1)
    name = dataset.images[index].file_name
    return [f"{_sides(box)} on {name}" for box in objects.boxes[~learnt & ~objects.crowd]]


def _sides(box: Tensor) -> str:
    width, height = (box[2:] - box[:2]).tolist()
    return f"{width:.3g}x{height:.3g} pixels"


@cache
def _locations(config: DetectorConfig, canvas: tuple[int, int]) -> Locations:
    """The locations of a detector for images of this height and width."""
    height, width = canvas
    shapes = [(-(-height // stride), -(-width // stride)) for stride in config.strides]
    settings = config.head_settings
    return HEADS[config.head].locations(shapes, settings.strides, settings.anchor_scale)

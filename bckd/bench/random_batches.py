"""Batches of random pixels and boxes, as a loader would give them."""

from __future__ import annotations

import torch

from bckd.bench.subject import Subject
from bckd.datasets.coco import Sample, collate
from bckd.structures import Batch

_OBJECTS = 7.3  # of an image of COCO, on average


def random_batch(subject: Subject, count: int, seed: int) -> Batch:
    """So many images that fill the canvas, on the host; boxes are many in some, few in others."""
    generator = torch.Generator().manual_seed(seed)
    samples = [_sample(subject, n, generator) for n in range(count)]
    return collate(samples, subject.recipe.data.size)


def _sample(subject: Subject, index: int, generator: torch.Generator) -> Sample:
    height, width = subject.canvas
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)
    objects = 1 + int(torch.empty(1).exponential_(1 / (_OBJECTS - 1), generator=generator))
    limits = torch.tensor([width, height])
    # Sides as COCO's: most are small, a few fill the image.
    sides = limits * torch.rand(objects, 1, generator=generator) ** 2.5
    sides = (sides * (0.5 + torch.rand(objects, 2, generator=generator))).clamp(min=4)
    sides = sides.minimum(limits)
    corners = (limits - sides) * torch.rand(objects, 2, generator=generator)
    classes = len(subject.class_names)
    return Sample(
        image=pixels.permute(2, 0, 1),
        normalisation=subject.recipe.model.normalisation,
        boxes=torch.cat([corners, corners + sides], dim=1),
        labels=torch.randint(classes, (objects,), generator=generator),
        crowd=torch.zeros(objects, dtype=torch.bool),
        original_size=(height, width),
        frame=(0, 0, width, height),
        index=index,
        flipped=False,
        image_id=index,
        file_name=f"{index}.jpg",
    )

"""Tiny inputs that several tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from bckd.geometry import distances_to_boxes, grid
from bckd.structures import Assignment, DenseOutput, Locations

torch.set_num_threads(2)


def dense_output(
    seed: int = 0,
    num_images: int = 2,
    num_classes: int = 3,
    shapes: Sequence[tuple[int, int]] = ((4, 5), (2, 3)),
    strides: Sequence[int] = (8, 16),
    bins: int = 6,
) -> DenseOutput:
    """Random output whose `cls_logits` and `box_logits` are leaves that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    locations = grid(shapes, strides)
    count = len(locations.centres)
    cls_logits = torch.randn(num_images, count, num_classes, generator=generator)
    box_logits = torch.randn(num_images, count, 4, bins, generator=generator)
    return output_of(cls_logits, box_logits, locations)


def output_of(cls_logits: Tensor, box_logits: Tensor, locations: Locations) -> DenseOutput:
    """Output around given logits; boxes follow from the side distributions."""
    cls_logits = cls_logits.detach().clone().requires_grad_()
    box_logits = box_logits.detach().clone().requires_grad_()
    mean = (box_logits.softmax(-1) * torch.arange(box_logits.shape[-1])).sum(-1)
    boxes = distances_to_boxes(
        locations.centres.expand(len(mean), -1, -1), mean * locations.strides[:, None]
    )
    return DenseOutput(cls_logits, boxes, locations, box_logits=box_logits)


def assignment_of(
    output: DenseOutput, positives: dict[tuple[int, int], int], region: Tensor | None = None
) -> Assignment:
    """Assignment by hand: {(image, location): label}; target boxes are drawn around centres."""
    num_images, count, num_classes = output.cls_logits.shape
    labels = torch.full((num_images, count), num_classes)
    boxes = torch.zeros(num_images, count, 4)
    for order, ((image, location), label) in enumerate(positives.items()):
        labels[image, location] = label
        stride = output.locations.strides[location]
        sides = stride * (torch.tensor([1.3, 0.6, 2.2, 1.75]) + 0.1 * order)
        boxes[image, location] = distances_to_boxes(output.locations.centres[location], sides)
    positive = labels < num_classes
    everywhere = torch.ones_like(positive)
    return Assignment(
        labels=labels,
        boxes=boxes,
        valid=everywhere,
        counted=everywhere,
        positive=positive,
        num_positives=positive.sum(1).clamp(min=1).sum().float(),
        localisation_region=region,
    )


@pytest.fixture(name="dense_output")
def _dense_output() -> Callable[..., DenseOutput]:
    return dense_output


@pytest.fixture(name="output_of")
def _output_of() -> Callable[..., DenseOutput]:
    return output_of


@pytest.fixture(name="assignment_of")
def _assignment_of() -> Callable[..., Assignment]:
    return assignment_of

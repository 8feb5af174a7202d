from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bckd.geometry import grid
from bckd.structures import Assignment, DenseOutput


def maps_of(
    seed: int,
    channels: int,
    images: int = 2,
    shapes: tuple[tuple[int, int], ...] = ((4, 5), (2, 3)),
) -> DenseOutput:
    """What a detector says of some images; its maps are leaves that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(
        torch.randn(images, channels, *shape, generator=generator).mul(3).requires_grad_()
        for shape in shapes
    )
    locations = grid(shapes, [8 * 2**n for n in range(len(shapes))])
    count = len(locations.centres)
    logits, boxes = torch.zeros(images, count, 3), torch.zeros(images, count, 4)
    return DenseOutput(logits, boxes, locations, features=maps)


@pytest.fixture(name="maps_of")
def _maps_of() -> Callable[..., DenseOutput]:
    return maps_of


@pytest.fixture
def nothing_assigned() -> Assignment:
    """Images without objects: terms of maps alone do not look at it."""
    return Assignment.for_distillation(torch.zeros(2, 26, dtype=torch.bool))


@pytest.fixture
def doubled() -> Callable[[DenseOutput], DenseOutput]:
    def twice(output: DenseOutput) -> DenseOutput:
        return replace(output, features=tuple(torch.cat([x, x]) for x in output.features))

    return twice

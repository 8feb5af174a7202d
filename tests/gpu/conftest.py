"""The check of a GPU: `make gpu`. Without one every test of this folder skips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bckd.normalisation import IMAGENET
from bckd.structures import Batch, GroundTruth

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU, and PyTorch finds none on this machine")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Float32 is float32: no TF32, whose products have ten bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def random_batch(images: int = 4, height: int = 128, width: int = 160, objects: int = 6) -> Batch:
    """Noise with boxes of three classes, on the host; the last image has none."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([width, height])
    corners = torch.rand(images, objects, 2, generator=generator) * 0.6 * sides
    spans = 16 + torch.rand(images, objects, 2, generator=generator) * 0.3 * sides
    labels = torch.randint(3, (images, objects), generator=generator)
    labels[-1] = -1
    sizes = torch.tensor([[height, width]]).repeat(images, 1)
    pixels = torch.randint(256, (images, 3, height, width), generator=generator)
    return Batch(
        pixels=pixels.to(torch.uint8),
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=((height, width),) * images,
        original_sizes=sizes,
        frames=torch.tensor([[0, 0, width, height]]).repeat(images, 1),
        ground_truth=GroundTruth(
            torch.cat([corners, corners + spans], dim=-1),
            labels,
            torch.zeros_like(labels, dtype=torch.bool),
            has_crowd=False,
        ),
        indices=tuple(range(images)),
        flipped=(False,) * images,
        image_ids=tuple(range(images)),
        file_names=tuple(f"{n}.png" for n in range(images)),
    )

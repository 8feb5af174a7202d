"""Augmentations of one's own: functions of an image and its boxes, in a list.

An augmentation is a function (image, boxes, rng) -> (image, boxes), or a transform of
`torchvision.transforms.v2`. It sees the training image at its size for the network, after the
flip:

    image: (3, H, W) uint8 RGB. It may become smaller, not larger.
    boxes: (G, 4) xyxy in pixels of the image. As many rows come back, in the same order; what
        lies outside is cut off, and a box without area is left out.
    rng: a numpy Generator, which depends on (seed, epoch, image) alone, so that a resumed run
        sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from bckd.datasets.annotations import Objects
from bckd.system.errors import InputError

Augmentation: TypeAlias = (
    Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]] | v2.Transform
)


def augment(
    image: Tensor, objects: Objects, augmentations: Sequence[Augmentation], key: Sequence[int]
) -> tuple[Tensor, Objects]:
    """An image (3, H, W) uint8 and its objects, augmented.

    Args:
        key: numbers from which the randomness follows.

    Raises:
        InputError: an augmentation returns something else, a larger image or other boxes.
    """
    rng = np.random.default_rng(tuple(key))
    limit = tuple(image.shape)
    for augmentation in augmentations:
        if isinstance(augmentation, v2.Transform):
            image, objects = _transformed(augmentation, image, objects, rng)
        else:
            image, boxes = augmentation(image, objects.boxes, rng)
            _check(augmentation, image, boxes, limit, len(objects.boxes))
            objects = replace(objects, boxes=boxes)
        _check(augmentation, image, objects.boxes, limit, len(objects.boxes))
        objects = _visible(objects, (image.shape[1], image.shape[2]))
    return image, objects


def _transformed(
    transform: v2.Transform, image: Tensor, objects: Objects, rng: np.random.Generator
) -> tuple[Tensor, Objects]:
    """torchvision's draw from PyTorch's own generator, which is left as it was."""
    size = tuple(image.shape[1:])
    boxes = tv_tensors.BoundingBoxes(objects.boxes, format="XYXY", canvas_size=size)
    rows = torch.arange(len(objects.boxes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        found = transform({"image": tv_tensors.Image(image), "boxes": boxes, "labels": rows})
    kept = found["labels"]
    return found["image"].as_subclass(Tensor), Objects(
        boxes=found["boxes"].as_subclass(Tensor),
        labels=objects.labels[kept],
        crowd=objects.crowd[kept],
    )


def _check(
    augmentation: Augmentation, image: object, boxes: object, limit: tuple[int, ...], count: int
) -> None:
    name = getattr(augmentation, "__name__", type(augmentation).__name__)
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.dim() != 3:
        raise InputError(f"augmentation {name} gives no image (3, H, W) of uint8")
    if any(side > most for side, most in zip(image.shape, limit, strict=True)):
        raise InputError(
            f"augmentation {name} makes an image {tuple(image.shape)} of one {limit}; expected "
            f"none that is larger"
        )
    if not isinstance(boxes, Tensor) or tuple(boxes.shape) != (count, 4):
        shown = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise InputError(f"augmentation {name} gives boxes {shown}; expected {(count, 4)}")


def _visible(objects: Objects, size: tuple[int, int]) -> Objects:
    """The objects within an image of that height and width, cut at its border."""
    height, width = size
    limits = torch.tensor([width, height, width, height], dtype=objects.boxes.dtype)
    boxes = objects.boxes.clamp(min=0).minimum(limits)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return Objects(boxes=boxes[seen], labels=objects.labels[seen], crowd=objects.crowd[seen])

"""How large the objects of a data set are, as a detector sees them: after resizing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.image_size import ImageSize


@dataclass(frozen=True)
class ObjectSizes:
    """The boxes to learn of a class, crowd regions apart.

    Attributes:
        boxes: how many there are.
        images: how many images have one.
        small, median, large: 5, 50 and 95 % of the sizes, sqrt(width * height) in pixels after
            resizing; nan where there is no box.
    """

    name: str
    boxes: int
    images: int
    small: float
    median: float
    large: float


def object_sizes(annotations: Annotations, size: ImageSize) -> tuple[ObjectSizes, ...]:
    """How large the boxes of each class are once images are brought to size, class by class."""
    sides, labels = resized_sides(annotations, size)
    columns = annotations.objects
    images = np.repeat(np.arange(len(annotations.images)), np.diff(columns.starts))
    images = images[~columns.crowd]
    geometric = np.sqrt(sides.prod(axis=1))
    return tuple(
        ObjectSizes(
            name,
            int((labels == label).sum()),
            len(np.unique(images[labels == label])),
            *quantiles(geometric[labels == label]),
        )
        for label, name in enumerate(annotations.class_names)
    )


def resized_sides(annotations: Annotations, size: ImageSize) -> tuple[np.ndarray, np.ndarray]:
    """Sides of the boxes to learn, crowd regions apart, once images are brought to size.

    Returns:
        (N, 2) width and height in pixels, and (N,) labels.
    """
    columns = annotations.objects
    boxes = columns.boxes.astype(np.float64)
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.repeat(
        scales(annotations, size), np.diff(columns.starts), axis=0
    )
    return sides[~columns.crowd], columns.labels[~columns.crowd]


def scales(annotations: Annotations, size: ImageSize) -> np.ndarray:
    """(images, 2) by what the width and the height of each image are multiplied."""
    shapes = [(image.width, image.height) for image in annotations.images]
    brought = [size.resized(height, width)[::-1] for width, height in shapes]
    return (np.array(brought, dtype=np.float64) / np.array(shapes)).reshape(-1, 2)


def quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """5, 50 and 95 % of these; nan of none."""
    if not len(values):
        return (float("nan"),) * 3
    small, median, large = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
    return small, median, large

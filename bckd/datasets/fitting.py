"""Image size, strides and anchors that fit the objects of a data set.

The rules, and where they are from:

- An object wants two cells of the finest level across, else what lies beside it takes its
  location; half the objects of each class should have them (`MIN_CELLS`).
- Nothing is gained by images larger than their files.
- An anchor fits a box if no side of it is more than four times that of the other: the measure of
  YOLOv5's AutoAnchor, whose share of boxes that some anchor fits is the best possible recall.
- The coarsest anchor is as large as the large objects (95 %), so that they have a level. There are
  four levels or more: ATSS finds a location where one level fits better than the others, and of
  three they are often two that fit alike. Of the boxes of NEU's defects, of VOC2007 and of the
  scenes it leaves 2, 1.4 and 0 % without one on three levels, 1.3, .5 and 0 % on four.
- The finest anchor is as large as the small objects (5 %), between 3 and 4 strides; anchors of 8
  leave 8.7, 8.2 and 1.5 % without a location on three levels.
- Where the size is free, half the objects of each class get twice what they want; an image keeps a
  third of the pixels that it may have, for what is to be seen within a large object.
- A class of fewer than `FEW` boxes says nothing about sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.datasets.object_sizes import (
    ObjectSizes,
    object_sizes,
    quantiles,
    resized_sides,
    scales,
)
from bckd.image_size import ImageSize

MIN_CELLS = 2  # of the finest level, across an object
FEW = 20  # boxes of a class: one of them is 5 % of all that is learnt of it
LEAST_SHARE = 1 / 3  # of the pixels that an image may have
ANCHORS = (3.0, 4.0)  # strides that an anchor is wide, at least and at most, where it is free
FIT = 4.0  # largest ratio of a box's side to an anchor's
SCALES = tuple(n / 2 for n in range(4, 17))  # 2 to 8 strides, that an anchor may be wide
LEVELS = (4, 8)  # fewest and most


def smallest_class(sizes: Sequence[ObjectSizes]) -> ObjectSizes | None:
    """The class of the smallest median, of those with boxes enough; None: there is none."""
    told = [each for each in sizes if each.boxes >= FEW]
    return min(told, key=lambda each: each.median, default=None)


def enlarged(annotations: Annotations, size: ImageSize, factor: float) -> ImageSize | None:
    """A size that shows objects larger by a factor, as far as the files allow it.

    Sides are rounded up to the padding multiple.

    Returns:
        None: half the files are no larger than this already.
    """
    allowed = 1 / float(np.median(scales(annotations, size)))
    factor = min(factor, allowed)
    if factor <= 1:
        return None
    short, long = (size.padded(math.ceil(factor * x)) for x in (size.short_side, size.long_side))
    return ImageSize(short, long, size.pad_multiple, size.centred)


def fitting_size(annotations: Annotations, finest: int, most_pixels: int) -> ImageSize:
    """The size that the objects want, no larger than the files are, sides in padding multiples.

    Args:
        annotations: of one or more images.
        finest: stride of the finest level, in pixels.
        most_pixels: of an image, padding included.
    """
    shapes = np.array([(image.height, image.width) for image in annotations.images])
    short, long = np.median(np.sort(shapes, axis=1), axis=0).tolist()
    smallest = smallest_class(object_sizes(annotations, ImageSize(round(short), round(long), 1)))
    wanted = 2 * MIN_CELLS * finest / smallest.median if smallest is not None else 1.0
    least = math.sqrt(LEAST_SHARE * most_pixels / (short * long))
    factor = min(max(wanted, least), 1.0, math.sqrt(most_pixels / (short * long)))
    unit = ImageSize().pad_multiple
    rows = max(math.ceil(factor * short / unit), 1)
    columns = max(math.ceil(rows * long / short), rows)
    while rows > 1 and rows * columns * unit**2 > most_pixels:
        rows -= 1
        columns = max(math.ceil(rows * long / short), rows)
    return ImageSize(unit * rows, unit * columns, unit)


def fitting_anchor(annotations: Annotations, size: ImageSize, finest: int) -> float:
    """The width of an anchor in strides at which the finest is as large as the small objects."""
    sides, _ = resized_sides(annotations, size)
    small = quantiles(np.sqrt(sides.prod(axis=1)))[0]
    return min(max(round(2 * small / finest) / 2, ANCHORS[0]), ANCHORS[1])


def best_possible_recall(sides: np.ndarray, strides: Sequence[int], anchor_scale: float) -> float:
    """The share of boxes that a square anchor of some level fits, as AutoAnchor measures it.

    Args:
        sides: (N, 2), one or more.
    """
    anchors = anchor_scale * np.array(strides, dtype=np.float64)
    ratio = sides[:, None, :] / anchors[None, :, None]
    worst = np.maximum(ratio, 1 / ratio).max(axis=2)  # (N, levels)
    return float((worst.min(axis=1) < FIT).mean())


def fitting_scale(sides: np.ndarray, strides: Sequence[int]) -> float:
    """The width of an anchor in strides that fits most boxes; of equals the nearest to 3."""

    def fits(scale: float) -> tuple[float, float]:
        return best_possible_recall(sides, strides, scale), -abs(scale - ANCHORS[0])

    return max(SCALES, key=fits)


def fitting_strides(
    annotations: Annotations, size: ImageSize, finest: int, anchor_scale: float
) -> tuple[int, ...]:
    """Strides, doubling, up to the first whose anchor is as large as the large objects.

    None of three or more is wider than an image is high.
    """
    sides, _ = resized_sides(annotations, size)
    large = quantiles(np.sqrt(sides.prod(axis=1)))[2]
    strides = [finest * 2**n for n in range(3)]
    room = size.padded(size.short_side)
    while len(strides) < LEVELS[1] and 2 * strides[-1] <= room:
        if len(strides) >= LEVELS[0] and anchor_scale * strides[-1] >= large:
            break
        strides.append(2 * strides[-1])
    return tuple(strides)

"""From the pixels of a file to what a network takes: size, margins, normalisation."""

from __future__ import annotations

import torchvision.transforms.v2.functional as transforms
from torch import Tensor

from bckd.image_size import ImageSize
from bckd.normalisation import Normalisation

Frame = tuple[int, int, int, int]  # xyxy: where the picture is, within its margins


def resized(pixels: Tensor, size: ImageSize) -> Tensor:
    """An image (3, H, W) uint8 at its size for the network, without margins."""
    height, width = pixels.shape[1:]
    if (wanted := size.resized(height, width)) == (height, width):
        return pixels
    # Without antialiasing, as OpenCV's bilinear resizing in the official pipeline.
    image: Tensor = transforms.resize(pixels, list(wanted), antialias=False)
    return image


def normalised(
    image: Tensor, size: ImageSize, normalisation: Normalisation
) -> tuple[Tensor, Frame]:
    """A resized image (3, H, W) uint8 with its margins, as numbers; and where it is in these."""
    height, width = image.shape[1:]
    margins = left, top, _, _ = size.margins(height, width)
    if any(margins):
        image = transforms.pad(image, list(margins))
    pixels = transforms.to_dtype(image, scale=True)
    return normalisation.apply(pixels), (left, top, left + width, top + height)

"""How pixels become the numbers that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bckd.system.values import Deviation, Fraction


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of each channel, in the order that the network takes them.

    In pixel values over 255, so that torchvision's numbers can stand as they are.
    """

    mean: tuple[Fraction, Fraction, Fraction]
    deviation: tuple[Deviation, Deviation, Deviation]
    bgr: bool = False  # channels are blue, green, red (OpenCV's order), else red, green, blue

    def apply(self, pixels: Tensor) -> Tensor:
        """Normalised images of RGB pixels (..., 3, H, W) in 0..1."""
        mean, deviation = self._shaped(pixels)
        return ((pixels.flip(-3) if self.bgr else pixels) - mean) / deviation

    def images_of(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) float32 of a batch's pixels, made where these are.

        Args:
            pixels: (N, 3, H, W) uint8 RGB.
            sizes: (N, 2) height and width of each image; beyond them is padding, which is 0.
        """
        ordered = pixels.flip(-3) if self.bgr else pixels
        images = ordered.to(torch.float32, memory_format=torch.contiguous_format)
        mean, deviation = self._shaped(images)
        images.mul_(1 / 255).sub_(mean).div_(deviation)  # in place: a batch is 200 MB
        rows, columns = (torch.arange(side, device=pixels.device) for side in pixels.shape[2:])
        padding = rows[:, None] >= sizes[:, 0, None, None, None]
        padding = padding | (columns >= sizes[:, 1, None, None, None])
        return images.masked_fill_(padding, 0)

    def undo(self, images: Tensor) -> Tensor:
        """RGB pixels in 0..1 of normalised images (..., 3, H, W)."""
        mean, deviation = self._shaped(images)
        pixels = images * deviation + mean
        return pixels.flip(-3) if self.bgr else pixels

    def _shaped(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return _filled(self.mean, like), _filled(self.deviation, like)


def _filled(values: Sequence[float], like: Tensor) -> Tensor:
    """(3, 1, 1) of these values, filled in on the device: a copy from the host would wait."""
    found = torch.empty(len(values), 1, 1, dtype=like.dtype, device=like.device)
    for row, value in zip(found, values, strict=True):
        row.fill_(value)
    return found


# Of torchvision's ImageNet weights.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of Caffe's ResNets, as mmdetection has them: BGR, mean alone.
CAFFE = Normalisation(
    (102.9801 / 255, 115.9465 / 255, 122.7717 / 255), (1 / 255, 1 / 255, 1 / 255), bgr=True
)

# Of NanoDet-m, as its configuration has it: ImageNet's, in BGR.
NANODET = Normalisation(
    (103.53 / 255, 116.28 / 255, 123.675 / 255),
    (57.375 / 255, 57.12 / 255, 58.395 / 255),
    bgr=True,
)


def renormalise(images: Tensor, ours: Normalisation, theirs: Normalisation) -> Tensor:
    """Batch images (N, 3, H, W) normalised one way, as another detector takes them.

    Padding, which is 0 in all channels, stays 0.
    """
    if ours == theirs:
        return images
    padding = (images == 0).all(dim=1, keepdim=True)
    return theirs.apply(ours.undo(images)).masked_fill(padding, 0)

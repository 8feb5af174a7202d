"""How pixels become the numbers that a network was trained on."""

from __future__ import annotations

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

    def undo(self, images: Tensor) -> Tensor:
        """RGB pixels in 0..1 of normalised images (..., 3, H, W)."""
        mean, deviation = self._shaped(images)
        pixels = images * deviation + mean
        return pixels.flip(-3) if self.bgr else pixels

    def _shaped(self, like: Tensor) -> tuple[Tensor, Tensor]:
        # Filled in on the device: for a copy of what the host has made, the host would wait.
        mean, deviation = (
            torch.stack([like.new_full((1, 1), value) for value in values])
            for values in (self.mean, self.deviation)
        )
        return mean, deviation


# Of torchvision's ImageNet weights.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of Caffe's ResNets, as mmdetection has them: BGR, mean alone.
CAFFE = Normalisation(
    (102.9801 / 255, 115.9465 / 255, 122.7717 / 255), (1 / 255, 1 / 255, 1 / 255), bgr=True
)


def renormalise(images: Tensor, ours: Normalisation, theirs: Normalisation) -> Tensor:
    """Batch images (N, 3, H, W) normalised one way, as another detector takes them.

    Padding, which is 0 in all channels, stays 0.
    """
    if ours == theirs:
        return images
    padding = (images == 0).all(dim=1, keepdim=True)
    return theirs.apply(ours.undo(images)).masked_fill(padding, 0)

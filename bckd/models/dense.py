"""What every dense detector offers, whatever it is made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bckd.models.postprocess import PostProcess, postprocess
from bckd.normalisation import IMAGENET, Normalisation
from bckd.structures import DenseOutput, Detections


class DenseDetector(nn.Module):
    """Images to a raw dense output, in training as in evaluation, and to detections.

    Attributes:
        class_names: the K class names, in the order of the labels.
        strides: of the pyramid's levels, in pixels.
        settings: how detections are picked.
        normalisation: what its images must have gone through.
        supervision: what it learns from labels: an object with `assign`, `losses` and `terms`, as
            `bckd.models.heads.head.Head` has them. Without it, or None: what the recipe's family
            does.
    """

    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    settings: PostProcess
    normalisation: Normalisation = IMAGENET
    # Without a default, which would hide a supervision that is itself a module.
    supervision: Any

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        raise NotImplementedError

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Detections of N images; `sizes` (N, 2) are heights and widths without padding."""
        return postprocess(self(images), sizes, self.settings)

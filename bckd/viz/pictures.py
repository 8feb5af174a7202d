"""Batches as pictures."""

from __future__ import annotations

import numpy as np

from bckd.normalisation import IMAGENET, Normalisation
from bckd.structures import Batch


def pictures_of(batch: Batch, normalisation: Normalisation = IMAGENET) -> list[np.ndarray]:
    """The images of a batch as (H, W, 3) uint8, padding (in the mean's grey) included."""
    pixels = normalisation.undo(batch.images.cpu()).clamp(0, 1) * 255
    return list(pixels.round().byte().permute(0, 2, 3, 1).numpy())

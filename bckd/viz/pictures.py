"""Batches as pictures."""

from __future__ import annotations

import numpy as np
import torch

from bckd.datasets.coco import DEVIATION, MEAN
from bckd.structures import Batch


def pictures_of(batch: Batch) -> list[np.ndarray]:
    """The images of a batch as (H, W, 3) uint8, padding (in ImageNet's mean grey) included."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    pixels = (batch.images.cpu() * deviation + mean).clamp(0, 1) * 255
    return list(pixels.round().byte().permute(0, 2, 3, 1).numpy())

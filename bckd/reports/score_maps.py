"""Score maps: what a detector says at every location, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.structures import DenseOutput


def score_map(output: DenseOutput, image: int, label: int | None = None) -> list[Tensor]:
    """Sigmoid scores of one image as one (H, W) map a level.

    Args:
        image: position in the batch.
        label: one class, or None for the highest score over classes.

    Raises:
        IndexError: there is no such image or class.
    """
    scores = output.cls_logits[image].sigmoid()
    return as_maps(scores.amax(dim=-1) if label is None else scores[:, label], output)


def overlay(maps: Sequence[Tensor], size: tuple[int, int]) -> np.ndarray:
    """The highest value of all levels at each pixel: (H, W) of `size`, nearest neighbour."""
    enlarged = [F.interpolate(m[None, None].float(), size=size)[0, 0] for m in maps]
    return torch.stack(enlarged).amax(dim=0).cpu().numpy()


def as_maps(values: Tensor, output: DenseOutput) -> list[Tensor]:
    """Values (A,) of the locations of an output as (H, W) maps, one a level; a cell's highest."""
    parts = zip(values.split(output.locations.counts), output.locations.levels, strict=True)
    return [part.reshape(x.height, x.width, x.per_cell).amax(dim=-1) for part, x in parts]

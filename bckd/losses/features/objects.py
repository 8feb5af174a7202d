"""Where the objects of a batch lie on a map of the pyramid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.structures import GroundTruth, Level


@dataclass(frozen=True)
class ObjectCells:
    """The cells that objects cover.

    Attributes:
        inside: (N, G, H, W) bool: the cell is one of the object's; never of a row that is padding,
            a crowd region or of no area.
        counts: (N, G) how many cells the object has on the whole plane, at least 1.
    """

    inside: Tensor
    counts: Tensor

    @property
    def any(self) -> Tensor:
        """(N, H, W) bool: the cell is an object's."""
        return self.inside.any(dim=1)

    @property
    def scale(self) -> Tensor:
        """(N, H, W) 1 over the count of cells of the object there, the smallest; 0 outside all."""
        each = self.inside / self.counts[..., None, None]
        # A batch may have no object at all: then there is no row to take the largest of.
        return F.pad(each, (0, 0, 0, 0, 0, 1)).amax(dim=1)


def object_cells(truth: GroundTruth, level: Level) -> ObjectCells:
    """The cells of a level from the one with a box's left top corner to that with its right bottom.

    Both ends are rounded outwards, as FGD and MGD's authors do (`fgd.py`: floor and ceil, both
    counted).

    Args:
        truth: boxes (N, G, 4) in pixels of the padded batch.
    """
    cells = truth.boxes / level.stride
    start, end = cells[..., :2].floor(), cells[..., 2:].ceil()
    sizes = (end - start + 1).clamp(min=1)
    columns, rows = (
        torch.arange(count, device=cells.device) for count in (level.width, level.height)
    )
    across = (columns >= start[..., :1]) & (columns <= end[..., :1])  # (N, G, W)
    down = (rows >= start[..., 1:]) & (rows <= end[..., 1:])  # (N, G, H)
    inside = down[..., :, None] & across[..., None, :] & truth.objects[..., None, None]
    return ObjectCells(inside, sizes.prod(dim=-1))

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
    """The cells of a level from the one with a box's left top corner to beyond its right bottom.

    As FGD's authors have them (`fgd.py`): from floor(x1 / stride) to ceil(x2 / stride), both ends
    counted.

    Args:
        truth: boxes (N, G, 4) in pixels of the padded batch.
    """
    cells = truth.boxes / level.stride
    return _covered(cells[..., :2].floor(), cells[..., 2:].ceil(), truth, level)


def object_cells_inside(truth: GroundTruth, level: Level) -> ObjectCells:
    """The cells of a level from the one with a box's left top corner to before its right bottom's.

    As DeFeat's authors have them (`anchor_head.py`): from floor(x1 / stride) to
    floor(x2 / stride) - 1, but one row and one column at least. Takes what `object_cells` does.
    """
    cells = (truth.boxes / level.stride).floor()
    first = cells[..., :2]
    return _covered(first, torch.maximum(cells[..., 2:] - 1, first), truth, level)


def _covered(first: Tensor, last: Tensor, truth: GroundTruth, level: Level) -> ObjectCells:
    """The cells between two, both counted.

    Args:
        first, last: (N, G, 2) column and row, on the whole plane.
    """
    columns, rows = (
        torch.arange(count, device=first.device) for count in (level.width, level.height)
    )
    across = (columns >= first[..., :1]) & (columns <= last[..., :1])  # (N, G, W)
    down = (rows >= first[..., 1:]) & (rows <= last[..., 1:])  # (N, G, H)
    inside = down[..., :, None] & across[..., None, :] & truth.objects[..., None, None]
    return ObjectCells(inside, (last - first + 1).clamp(min=1).prod(dim=-1))

"""What the supervised losses of several families share: focal loss, centerness, divisors.

RetinaNet: Lin et al., ICCV 2017 (arXiv 1708.02002). FCOS: Tian et al., ICCV 2019 (arXiv
1904.01355). ATSS: Zhang et al., CVPR 2020 (arXiv 1912.02424). Every sum is over all levels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.geometry import boxes_to_distances
from bckd.groups import group_divisor
from bckd.losses.focal import focal_loss
from bckd.losses.rows import Rows
from bckd.structures import Assignment, DenseOutput


def focal_term(output: DenseOutput, assignment: Assignment) -> Tensor:
    """Focal loss (alpha .25, gamma 2) of all counted locations over the number of positives."""
    per_location = focal_loss(output, assignment.labels)
    return assignment.over_positives(per_location * assignment.counted)


def centerness_term(logits: Tensor, targets: Tensor, rows: Rows, assignment: Assignment) -> Tensor:
    """Cross-entropy of the positives' centerness (P,) over their number.

    Args:
        logits, targets: (P,) of the positives' rows.
    """
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return rows.only(bce).sum() / assignment.num_positives


def centerness_of(centres: Tensor, boxes: Tensor) -> Tensor:
    """Centerness (P,) of points (P, 2) in boxes (P, 4): 1 in the middle, 0 at the border.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (FCOS paper, equation 3).
    """
    left_top, right_bottom = boxes_to_distances(centres, boxes).split(2, dim=-1)
    near, far = torch.minimum(left_top, right_bottom), torch.maximum(left_top, right_bottom)
    return (near / far).prod(dim=-1).sqrt()


def total_of_groups(values: Tensor, assignment: Assignment, **limit: float) -> Tensor:
    """What this process divides by: the sum over positives' values (P,), mean over groups."""
    images = len(assignment.valid)
    return group_divisor(values.sum(), images, assignment.images_per_group, **limit)

"""The focal losses of GFL: of a class score that is a quality, and of a distribution.

Li et al., NeurIPS 2020 (arXiv 2006.04388); mmdetection 2.28
`models/losses/gfocal_loss.py`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(
    logits: Tensor, labels: Tensor, quality: Tensor, beta: float = 2.0
) -> Tensor:
    """Quality focal loss (GFL paper), summed over classes.

        sum_j |y_j - sigmoid(l_j)|^beta BCE(sigmoid(l_j), y_j)

    with y_j the quality for j the label, and 0 for all other classes.

    Args:
        logits: (..., K).
        labels: (...) class index; K is background.
        quality: (...) IoU of the predicted with the target box, in [0, 1].

    Returns:
        (...).
    """
    target = F.one_hot(labels, logits.shape[-1] + 1)[..., :-1] * quality[..., None]
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()).abs() ** beta * bce).sum(dim=-1)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (GFL paper): cross-entropy with the two nearest bins.

    Args:
        logits: (..., bins).
        distances: (...) target in bins; clamped to [0, bins - 1 - 0.1].

    Returns:
        (...): the two cross-entropies, weighted by closeness.
    """
    distances = distances.clamp(0, logits.shape[-1] - 1 - 0.1)
    lower = distances.floor().long()
    upper_share = distances - lower
    log_probabilities = logits.log_softmax(dim=-1)
    at_lower = log_probabilities.gather(-1, lower[..., None]).squeeze(-1)
    at_upper = log_probabilities.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -(at_lower * (1 - upper_share) + at_upper * upper_share)

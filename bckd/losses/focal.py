"""Focal losses: of class scores, of a class score that is a quality, and of a distribution.

Focal loss: Lin et al., ICCV 2017 (arXiv 1708.02002). The other two: Li et al., NeurIPS 2020 (GFL,
arXiv 2006.04388); mmdetection 2.28 `models/losses/gfocal_loss.py`.

At most one class of a location has another target than 0. So the losses of all classes are
those of background, and the label's is put in its place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.structures import DenseOutput


def focal_loss(
    output: DenseOutput, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss, summed over classes.

        sum_j a_j |y_j - sigmoid(l_j)|^gamma BCE(sigmoid(l_j), y_j)

    with y_j 1 for j the label and 0 for all other classes, and a_j `alpha` or 1 - `alpha`.

    Args:
        output: its `cls_logits` (N, A, K).
        labels: (N, A) class index; K is background.

    Returns:
        (N, A).
    """
    background = (1 - alpha) * output.scores**gamma * output.background_bce
    logit = _of_label(output.cls_logits, labels)
    score, bce = logit.sigmoid(), F.softplus(logit)
    own = alpha * (1 - score) ** gamma * (bce - logit)
    is_background = labels == output.cls_logits.shape[-1]
    own = torch.where(is_background, (1 - alpha) * score**gamma * bce, own)
    return _with_label(background, labels, own).sum(dim=-1)


def quality_focal_loss(
    output: DenseOutput, labels: Tensor, quality: Tensor, beta: float = 2.0
) -> Tensor:
    """Quality focal loss (GFL paper), summed over classes.

        sum_j |y_j - sigmoid(l_j)|^beta BCE(sigmoid(l_j), y_j)

    with y_j the quality for j the label, and 0 for all other classes.

    Args:
        output: its `cls_logits` (N, A, K).
        labels: (N, A) class index; K is background.
        quality: (N, A) IoU of the predicted with the target box, in [0, 1].

    Returns:
        (N, A).
    """
    background = output.scores**beta * output.background_bce
    logit = _of_label(output.cls_logits, labels)
    quality = torch.where(labels == output.cls_logits.shape[-1], 0, quality)
    own = (quality - logit.sigmoid()).abs() ** beta * (F.softplus(logit) - quality * logit)
    return _with_label(background, labels, own).sum(dim=-1)


def _of_label(values: Tensor, labels: Tensor) -> Tensor:
    """(N, A) of values (N, A, K): those of the label; of background those of the last class."""
    return values.gather(-1, _column(labels, values)).squeeze(-1)


def _with_label(values: Tensor, labels: Tensor, own: Tensor) -> Tensor:
    """Values (N, A, K) with `own` (N, A) at the places that `_of_label` reads."""
    return values.scatter(-1, _column(labels, values), own[..., None])


def _column(labels: Tensor, values: Tensor) -> Tensor:
    return labels.clamp(max=values.shape[-1] - 1)[..., None]


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

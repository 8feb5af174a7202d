"""Losses: `distillation` is the method of this package, `detection` what is learnt from labels."""

from bckd.losses.detection import gfl_losses
from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)

__all__ = [
    "binary_classification",
    "gfl_losses",
    "iou_localisation",
    "localisation_distribution",
    "softmax_classification",
]

"""Losses: `distillation` is the method of this package, `detection` what is learnt from labels."""

from bckd.losses.detection import atss_losses, fcos_losses, gfl_losses, retinanet_losses
from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)

__all__ = [
    "atss_losses",
    "binary_classification",
    "fcos_losses",
    "gfl_losses",
    "iou_localisation",
    "localisation_distribution",
    "retinanet_losses",
    "softmax_classification",
]

"""Losses: `distillation` is the method of this package; heads have their own, of labels."""

from bckd.losses.distil import distil
from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)

__all__ = [
    "binary_classification",
    "distil",
    "iou_localisation",
    "localisation_distribution",
    "softmax_classification",
]

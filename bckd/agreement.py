"""How far a student's scores are from its teacher's, in the detector's own protocol."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from bckd.models.detector import Detector
from bckd.structures import Batch


@dataclass(frozen=True)
class Agreement:
    """Means over all valid locations of a data set.

    Attributes:
        score_error: mean over locations and classes of |sigmoid(l_s) - sigmoid(l_t)|.
        logit_shift: mean over locations and classes of l_s - l_t: the part of the
            difference that a softmax over classes can't see, on average.
    """

    score_error: float
    logit_shift: float


@torch.no_grad()
def agreement(student: Detector, teacher: Detector, loader: DataLoader[Batch]) -> Agreement:
    """Compare two detectors of the same locations and classes on a data set."""
    device = next(student.parameters()).device
    student.eval()
    teacher.eval()
    error, shift, count = 0.0, 0.0, 0
    for batch in loader:
        images = batch.images.to(device)
        ours, theirs = student(images), teacher(images)
        valid = ours.locations.inside(batch.padded_sizes.to(device))
        a, b = (x.cls_logits[valid].cpu().double() for x in (ours, theirs))
        error += (a.sigmoid() - b.sigmoid()).abs().sum().item()
        shift += (a - b).sum().item()
        count += a.numel()
    return Agreement(error / count, shift / count)

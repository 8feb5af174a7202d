"""YOLOv6's self-distillation of classes: the inconsistency that BCKD names, in a product."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bckd.losses.distillation import check_comparable
from bckd.structures import Assignment, DenseOutput

TEMPERATURE = 20.0  # meituan/YOLOv6, yolov6/core/engine.py


def softmax_of_scores(student: DenseOutput, teacher: DenseOutput, assignment: Assignment) -> Tensor:
    """A softmax over sigmoid scores, softened, summed over every location of the batch.

        T^2 sum_i KL(softmax(p_t_i / T) || softmax(p_s_i / T))

    As in meituan/YOLOv6, `yolov6/models/losses/loss_distill.py` (`distill_loss_cls`), whose head
    hands scores, not logits, to it, with weight 1. Scores are between 0 and 1: at T = 20 all
    softmaxes are nearly uniform, T^2 KL is about half the variance over classes of p_t - p_s, and a
    constant added to all scores of a location changes nothing. No divisor: the value grows with
    the batch and the image. Left out: the weight's fall to a hundredth by a cosine over the
    training, and the terms on boxes and features.

    Args:
        student, teacher: `cls_logits` (N, A, K) each.
        assignment: its `valid` (N, A).
    """
    check_comparable(student, teacher)
    pair = student.scores, teacher.scores.detach()
    log_ours, log_theirs = ((scores / TEMPERATURE).log_softmax(dim=-1) for scores in pair)
    each = F.kl_div(log_ours, log_theirs, reduction="none", log_target=True)
    divergence = each.sum(dim=-1)  # (N, A)
    return TEMPERATURE**2 * (divergence * assignment.valid).sum()

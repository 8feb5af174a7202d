"""DIST: scores compared by correlation, between the classes and within each."""

from __future__ import annotations

from torch import Tensor

from bckd.losses.distillation import check_comparable
from bckd.structures import Assignment, DenseOutput

EPSILON = 1e-8  # hunto/DIST_KD, segmentation/losses/dist_kd.py


def relations(student: DenseOutput, teacher: DenseOutput, assignment: Assignment) -> Tensor:
    """One minus Pearson's correlation of the scores: over classes, and over locations.

        mean_i (1 - r(p_s_i, p_t_i)) + mean_j (1 - r(p_s_j, p_t_j))

    i are the positives, each a row of K scores; j the classes, each a column of the scores of all
    valid locations of the batch. Huang et al., NeurIPS 2022 (arXiv 2205.10536, equations 6 to 11),
    whose weights of both parts are 1 for classifiers. They take softmaxes of a classifier, and
    publish no code for dense detectors; sigmoid scores, and positives alone for the rows (the
    correlation of a background's scores is that of rounding), are ours. With one class the rows
    say nothing.

    Args:
        student, teacher: `cls_logits` (N, A, K) each.
        assignment: its `positive` and `valid` (N, A).

    Returns:
        Scalar; 0 where the scores are the same but for scale and level.
    """
    check_comparable(student, teacher)
    ours, theirs = student.scores.flatten(0, 1), teacher.scores.detach().flatten(0, 1)
    positive, valid = (x.flatten().float() for x in (assignment.positive, assignment.valid))
    within = 1 - _correlation(ours.T, theirs.T, valid)  # (K,)
    if ours.shape[1] == 1:
        return within.mean()
    between = 1 - _correlation(ours, theirs, ours.new_ones(ours.shape[1]))  # (N * A,)
    return (between * positive).sum() / positive.sum().clamp(min=1) + within.mean()


def _correlation(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Pearson's correlation (R,) of rows (R, C), whose columns count by weights (C,)."""
    a, b = (x - (x * weights).sum(-1, keepdim=True) / weights.sum().clamp(min=1) for x in (a, b))
    covariance = (a * b * weights).sum(dim=-1)
    # The square root of 0 has no slope: of scores that do not differ at all.
    sizes = [(x.square() * weights).sum(dim=-1).clamp(min=EPSILON**2).sqrt() for x in (a, b)]
    return covariance / (sizes[0] * sizes[1] + EPSILON)

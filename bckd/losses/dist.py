"""DIST: scores compared by correlation, between the classes and within each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bckd.losses.distillation import check_comparable
from bckd.structures import Assignment, Batch, DenseOutput

# hunto/MasKD (where hunto/DIST_KD sends for its detectors), mmrazor/configs/distill/dist:
BETA, GAMMA = 1.0, 1.0  # between and within classes
EPSILON = 1e-8  # beside a product of norms; mmrazor/mmrazor/models/losses/dist_kd.py


def relations(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    batch: Batch | None = None,
) -> Tensor:
    """One minus Pearson's correlation of the scores: over the classes, and over the cells.

        sum_l  mean_i (1 - r(p_t_i, p_s_i)) + mean_j (1 - r(p_t_j, p_s_j))

    over the levels l, the cells i of all images (each a row of scores) and the classes j (each a
    column); r is Pearson's correlation (Huang et al., NeurIPS 2022, arXiv 2205.10536). A
    detector's scores are sigmoids, without a temperature, as in the official code for detectors
    (hunto/MasKD, `DIST` with `use_sigmoid` at RetinaNet's class logits): both parts with weight 1,
    the whole with weight 1, the same with us. With B anchors a cell, a row has their B K scores,
    as there. We leave out the cells outside an image, which the official code does not.

    A row's scale and level do not matter, so that a cell where all scores are twice the teacher's
    is right; a column's do not either. The mean over cells gives each object's cell the weight of
    one at the background. Where scores hardly differ (norms near 1e-4) the correlation goes to 0
    for `EPSILON`, also where student and teacher are equal. With one class and one anchor the first
    part is 1 whatever is said.

    Args:
        student, teacher: `cls_logits` (N, A, K) each.
        assignment: its `valid` (N, A) locations count.
        batch: not looked at.

    Returns:
        Scalar, from 0 to 4 a level.
    """
    check_comparable(student, teacher)
    levels = zip(_rows(student), _rows(teacher), _valid(student, assignment), strict=True)
    each = [_of_level(ours, theirs.detach(), valid) for ours, theirs, valid in levels]
    return torch.stack(each).sum()


def _rows(output: DenseOutput) -> Iterator[Tensor]:
    """The scores of each level, (N * cells, B * K)."""
    levels = output.locations.levels
    parts = output.scores.split(output.locations.counts, dim=1)
    for level, scores in zip(levels, parts, strict=True):
        yield scores.reshape(-1, level.per_cell * scores.shape[-1])


def _valid(output: DenseOutput, assignment: Assignment) -> Iterator[Tensor]:
    """(N * cells,) of each level: 1 where an anchor of the cell is valid, else 0."""
    levels = output.locations.levels
    parts = assignment.valid.split(output.locations.counts, dim=1)
    for level, valid in zip(levels, parts, strict=True):
        yield valid.reshape(-1, level.per_cell).any(dim=1).float()


def _of_level(ours: Tensor, theirs: Tensor, valid: Tensor) -> Tensor:
    between = 1 - _correlation(ours, theirs, torch.ones_like(ours[0]))
    within = 1 - _correlation(ours.T, theirs.T, valid)
    return BETA * (between * valid).sum() / valid.sum().clamp(min=1) + GAMMA * within.mean()


def _correlation(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Pearson's correlation (R,) of rows (R, C) each, whose columns take part by weights (C,)."""
    count = weights.sum().clamp(min=1)
    a, b = ((x - (x * weights).sum(dim=1, keepdim=True) / count) * weights for x in (a, b))
    # The slope of a norm at 0, of scores that do not differ at all, is 0 here.
    norms = [torch.linalg.vector_norm(x, dim=1) for x in (a, b)]
    return (a * b).sum(dim=1) / (norms[0] * norms[1] + EPSILON)

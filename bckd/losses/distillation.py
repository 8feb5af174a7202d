"""Distillation between dense detectors: the method of this package.

BCKD (Yang et al., ICCV 2023, arXiv 2308.14286) keeps the detector's own protocol,
K independent sigmoid scores and one decoded box a location:

    p_t = sigmoid(l_t)   p_s = sigmoid(l_s)   w_ij = |p_t - p_s|
    L_cls = sum_i sum_j  w_ij BCE(p_s_ij, p_t_ij)            `binary_classification`
    L_loc = sum_i max_j(w_ij) (1 - IoU(b_s_i, b_t_i))        `iou_localisation`

over locations i and classes j, divided by the number of positives. Beside them
stand what they are compared with: softmax distillation of the class logits, and
localisation distillation (LD, Zheng et al., CVPR 2022, arXiv 2102.12252).

Each function takes the student's and the teacher's dense output and the student's
assignment, and returns one *unweighted* scalar. Only the student gets a gradient.
Where the paper's formula and the official code (commit 121c9aa) differ, an argument
says which; the defaults are the official code's.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.geometry import IoUKind, box_similarity
from bckd.groups import group_count, sum_in_group
from bckd.losses.rows import Rows
from bckd.structures import Assignment, DenseOutput, Level
from bckd.system.errors import InputError

Places = Literal["all", "positives", "background"]


def binary_classification(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    *,
    beta: float = 1.0,
    detach_weight: bool = False,
    places: Places = "all",
    gate_levels: bool = True,
) -> Tensor:
    """L_cls: each class map distilled as a binary classification.

    The paper's binary classification distillation loss; loss_kd in the official code.

        sum_i sum_j |p_t - p_s|^beta BCE(p_s, p_t) / positives

    Args:
        student, teacher: `cls_logits` (N, A, K) each.
        assignment: its `valid` (N, A) locations count; its `num_positives` divides.
        beta: exponent of the weight; 0 is plain BCE.
        detach_weight: the weight is a constant (the formula leaves it open); the
            official code lets the gradient flow through p_s in it.
        places: all valid locations (paper and official code), the positives alone, or all
            but the positives.
        gate_levels: leave out every level on which the image's group (see `bckd.groups`)
            has no positive (official code); False takes all valid locations (paper).

    Returns:
        Scalar. At p_s = p_t the loss is 0 for beta > 0. There it has a kink at beta 1 unless the
        weight is detached: it has no derivative, and autograd's convention |x|' = 0 gives 0.
    """
    check_comparable(student, teacher)
    target = teacher.scores.detach()
    weight = _power((student.scores - target).abs(), beta)
    if detach_weight:
        weight = weight.detach()
    bce = torch.addcmul(student.background_bce, target, student.cls_logits, value=-1)
    per_location = _at((weight * bce).sum(dim=-1), places, assignment)  # (N, A)
    return _per_positive(per_location, assignment, student, gate_levels)


def iou_localisation(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    *,
    kind: IoUKind = "giou",
    weighting: Literal["gap", "teacher"] = "gap",
    gate_levels: bool = True,
) -> Tensor:
    """L_loc: each decoded box pulled to the teacher's by IoU.

    The paper's IoU-based localisation distillation loss; loss_score_kd in the official code.

        sum_i max_j |p_t - p_s| (1 - u(b_s, b_t)) / positives

    The weight max_j |p_t - p_s| is a constant. No regression head is assumed:
    only decoded boxes are compared. The better a student's scores, the smaller that
    weight: `weighting` "teacher" takes max_j p_t, which does not depend on them.

    Args:
        student, teacher: `boxes` (N, A, 4) in pixels and `cls_logits` (N, A, K).
        assignment: as in `binary_classification`.
        kind: u; "iou" in the paper, "giou" in the official code.
        weighting: "gap" (paper and official code), or "teacher" (ours, to tell apart
            what the boxes teach and what the scores' gap does).
        gate_levels: as in `binary_classification`.

    Returns:
        Scalar.
    """
    check_comparable(student, teacher)
    with torch.no_grad():
        score = teacher.scores
        if weighting == "gap":
            score = (score - student.scores).abs()
        weight = score.amax(dim=-1)  # (N, A)
    similarity = box_similarity(student.boxes, teacher.boxes.detach(), kind)
    return _per_positive(weight * (1 - similarity), assignment, student, gate_levels)


def softmax_classification(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    *,
    temperature: float = 2.0,
    places: Places = "all",
    gate_levels: bool = True,
) -> Tensor:
    """Softmax distillation of the class logits: the baseline whose protocol differs.

        sum_i T^2 mean_j KL(softmax(l_t / T) || softmax(l_s / T))_j / positives

    (Hinton et al. 2015; official `KnowledgeDistillationKLDivLoss`, weight 10,
    T 2, there called loss_kd.) The mean over classes makes a weight depend on K:
    10 at 80 classes equals 10 K / 80 at K. A constant added to all logits of a
    location changes nothing; with one class the loss is exactly 0.

    Args:
        temperature: T.
        places: all valid locations (official code), the positives alone, or all
            but the positives.
        gate_levels: as in `binary_classification`.
    """
    check_comparable(student, teacher)
    divergence = _softened_kl(student.cls_logits, teacher.cls_logits, temperature)
    divergence = _at(divergence, places, assignment)
    return _per_positive(divergence, assignment, student, gate_levels)


def localisation_distribution(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    *,
    temperature: float = 10.0,
    places: Literal["positives", "region"] = "positives",
) -> Tensor:
    """LD: softmax distillation of each side's distribution (Zheng et al. 2022).

    On positives, each location weighted by the student's top score (detached,
    plus 2e-4) and the sum over four sides divided by 4; on the valuable
    localisation region, weighted by the region's IoU and divided by 16. As in the
    official code (loss_ld, loss_ld_vlr) neither is divided by a number of
    locations: they grow with the boxes of a group, and are the mean over the groups of the
    batch (see `bckd.groups`). No level is left out.

    Args:
        student, teacher: `box_logits` (N, A, 4, bins) each.
        temperature: T.
        places: "positives", or "region" for `assignment.localisation_region`.

    Raises:
        InputError: a detector predicts no distribution, or no region was assigned.
    """
    check_comparable(student, teacher)
    if student.box_logits is None or teacher.box_logits is None:
        raise InputError("localisation distillation needs box distributions; use iou_localisation")
    if student.box_logits.shape[-1] != teacher.box_logits.shape[-1]:
        raise InputError(
            f"student has {student.box_logits.shape[-1]} bins a side and teacher "
            f"{teacher.box_logits.shape[-1]}: localisation distillation needs the same reg_max"
        )
    if places == "positives":
        scores = student.scores.detach().amax(dim=-1)
        weight, divisor = (scores + 2e-4) * assignment.positive, 4.0
    elif assignment.localisation_region is None:
        raise InputError("the assignment has no localisation region; give assign a region")
    else:
        weight, divisor = assignment.localisation_region, 16.0
    rows = Rows.where(weight > 0)
    pair = rows.take(student.box_logits), rows.take(teacher.box_logits)
    divergence = _softened_kl(*pair, temperature).sum(dim=-1)  # (P,)
    groups = group_count(len(weight), assignment.images_per_group)
    return (rows.take(weight) * divergence).sum() / (divisor * groups)


def check_comparable(student: DenseOutput, teacher: DenseOutput) -> None:
    """Refuse a pair whose locations or classes do not correspond.

    Raises:
        InputError: levels (stride, height, width) or the number of classes differ,
            or an output is in half precision.
    """
    if student.locations.levels != teacher.locations.levels:
        raise InputError(
            f"student and teacher have different levels (stride: height x width): "
            f"{_described(student)} against {_described(teacher)}"
        )
    dtypes = {
        x.dtype for x in (student.cls_logits, student.boxes, teacher.cls_logits, teacher.boxes)
    }
    if dtypes & {torch.float16, torch.bfloat16}:
        raise InputError("distillation needs float32 outputs: sums overflow in half precision")
    classes = student.cls_logits.shape[-1], teacher.cls_logits.shape[-1]
    if classes[0] != classes[1]:
        raise InputError(f"student has {classes[0]} classes, teacher has {classes[1]}")


def _power(gap: Tensor, beta: float) -> Tensor:
    """gap^beta for gap >= 0; at 0 its gradient is 0, where a root's would be infinite."""
    if beta == 0:
        return torch.ones_like(gap)
    if beta == 1:
        return gap
    positive = gap > 0
    return torch.where(positive, torch.where(positive, gap, 1.0) ** beta, gap)


def _described(output: DenseOutput) -> str:
    def of_level(level: Level) -> str:
        several = f" with {level.per_cell} anchors a cell" if level.per_cell > 1 else ""
        return f"{level.stride}: {level.height}x{level.width}{several}"

    return ", ".join(map(of_level, output.locations.levels))


def _softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over the last dimension of KL(teacher || student) at temperature T."""
    target = (teacher.detach() / temperature).softmax(dim=-1)
    log_student = (student / temperature).log_softmax(dim=-1)
    return F.kl_div(log_student, target, reduction="none").mean(dim=-1) * temperature**2


def _at(values: Tensor, places: Places, assignment: Assignment) -> Tensor:
    """Values (N, A), 0 at other locations."""
    if places == "all":
        return values
    return values * (assignment.positive if places == "positives" else ~assignment.positive)


def _places(assignment: Assignment, student: DenseOutput, gate_levels: bool) -> Tensor:
    """(N, A) bool: where distillation takes place."""
    if not gate_levels:
        return assignment.valid
    counts = student.locations.counts
    levels = assignment.positive.split(counts, dim=1)
    taught = torch.stack([level.any(dim=1) for level in levels], dim=1).float()  # (N, L)
    taught = sum_in_group(taught, assignment.images_per_group) > 0
    open_levels = [taught[:, n, None].expand(-1, count) for n, count in enumerate(counts)]
    return assignment.valid & torch.cat(open_levels, dim=1)


def _per_positive(
    per_location: Tensor, assignment: Assignment, student: DenseOutput, gate_levels: bool
) -> Tensor:
    """Sum of (N, A) over the places of distillation, divided by the number of positives."""
    return assignment.over_positives(per_location * _places(assignment, student, gate_levels))

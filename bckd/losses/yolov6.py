"""YOLOv6's self-distillation of classes: the inconsistency that BCKD names, in a product."""

from __future__ import annotations

from torch import Tensor

from bckd.losses.distillation import check_comparable
from bckd.structures import Assignment, Batch, DenseOutput

TEMPERATURE = 20.0  # meituan/YOLOv6, tools/train.py (--temperature)


def softmax_of_scores(
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    batch: Batch | None = None,
) -> Tensor:
    """A softmax over sigmoid scores, softened, summed over every location of an image.

        T^2 sum_i KL(softmax(p_t_i / T) || softmax(p_s_i / T)) / images

    As in meituan/YOLOv6, yolov6/models/losses/loss_distill.py (`distill_loss_cls`), to which its
    head hands scores, not logits (yolov6/models/effidehead.py). Scores lie between 0 and 1, so that
    at T = 20 no class has more than 1.052 times the probability of another, and with
    g = p_s - p_t

        T^2 KL = sum_j (g_j - mean g)^2 / 2K,  to some hundredths:

    a squared gap of scores that does not see a constant added to all classes of a location, nor
    anything of a detector of one class. Its slope at a logit has the factor p_s (1 - p_s) / K:
    next to nothing where the student is sure and wrong, or where classes are many.

    The official code sums over all images of a GPU, too, and divides neither by positives nor by
    images, beside supervised terms that are divided by the sum of target scores: the larger the
    batch, the more it weighs. Its weight (configs/yolov6*.py, `distill_weight`) times the images a
    GPU (docs/Train_coco_data.md) is ours: 1 x 16 for N, 1 x 32 for S and M, 2 x 16 for L. Left out:
    the fall of that weight to a hundredth by a cosine over the E epochs,
    1 - .99 (1 - cos(pi e / E)) / 2; the same divergence of box distributions, at positives (weight
    .5); CWD of the maps, on demand (weight 10); the small models' second box branch. We leave out
    the locations outside an image, which it does not.

    Args:
        student, teacher: `cls_logits` (N, A, K) each.
        assignment: its `valid` (N, A) locations count.
        batch: not looked at.

    Returns:
        Scalar.
    """
    check_comparable(student, teacher)
    theirs = teacher.scores.detach()
    each = _divergence(student.scores / TEMPERATURE, theirs / TEMPERATURE)  # (N, A)
    return TEMPERATURE**2 * (each * assignment.valid).sum() / len(each)


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL(softmax(theirs) || softmax(ours)) of logits (..., K), which are nearly the same.

    With q = softmax(theirs) and d = ours - theirs, less its mean under q, it is
    log(1 + sum q (e^d - 1 - d)). The difference of both logarithms, at gaps of scores below .01,
    is rounding in float32, and as often negative as not.
    """
    q = theirs.softmax(dim=-1)
    gap = ours - theirs
    gap = gap - (q * gap).sum(dim=-1, keepdim=True)
    return (q * (gap.expm1() - gap)).sum(dim=-1).log1p()

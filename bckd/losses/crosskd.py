"""CrossKD: the student's maps go through the teacher's head, and what comes out learns.

Wang et al., CVPR 2024 (arXiv 2306.11369); official code jbwang1997/CrossKD,
`mmdet/models/detectors/crosskd_gfl.py`, `crosskd_retinanet.py`. A detector's head is a row of
convolutions C_1 ... C_n. The cross-head prediction follows the student's up to C_i and goes on
with the teacher's, which is frozen:

    p^ = C^t_n o ... o C^t_(i+1) (f^s_i)

and is distilled from the teacher's own prediction p^t, so that labels and teacher don't pull at
the same numbers. Here C_(i+1) is the last convolution of both towers (i = 3 of 4 in the official
configurations, but for FCOS's i = 2; 1 of 2 in a head of two), see
`bckd.teachers.heads.CrossedHeads`.

Between both heads stands a 1x1 convolution a tower, shared by all levels, which learns: where
channels are the same it starts as the identity. The official code has none and takes the same
channels for granted; it brings each channel's mean and deviation over a GPU's images to the
teacher's instead (`align_scale`), for which the teacher has to compute its maps in every step.
Without that, which the convolution can learn, a teacher whose answers are kept will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from bckd.correspondence import per_cell
from bckd.geometry import EPSILON
from bckd.losses.distillation import binary_classification, iou_localisation
from bckd.losses.needs import Need
from bckd.losses.supervised import total_of_groups
from bckd.structures import Assignment, Batch, DenseOutput

# Weights of the official configurations, configs/crosskd/crosskd_r50_*_1x_coco.py: loss_cls_kd of
# GFL, RetinaNet and ATSS, loss_reg_kd of RetinaNet and ATSS (GIoU) and of GFL (KL divergence).
# (The commit 9f695b4 has 3 and 2 times GIoU beside it for GFL; that of the CrossKD + PKD of the
# published results has 4 and no GIoU, as here.)
CLASSES = 1.0
GIOU = 1.0
DISTRIBUTIONS = 4.0
# The weights of BCKD's two losses in its own official configuration.
BINARY, IOU = 1.0, 4.0


class Heads(Protocol):
    """The heads of both, crossed: see `bckd.teachers.heads.CrossedHeads`."""

    channels: tuple[int, int]

    def __call__(
        self, pyramid: Sequence[Tensor], adapters: Sequence[nn.Module], batch: Batch | None
    ) -> DenseOutput: ...


class CrossHeadTerm(nn.Module):
    """A term of cross-head predictions.

    Args:
        student, teacher: what both say of one image; not looked at.
        heads: of both.

    Attributes:
        adapters: of the class tower and of the box tower.
    """

    needs: ClassVar[tuple[Need, ...]] = ("head",)

    def __init__(self, student: DenseOutput, teacher: DenseOutput, heads: Heads) -> None:
        super().__init__()
        self.heads = heads
        self.adapters = nn.ModuleList(_adapter(*heads.channels) for _ in ("classes", "boxes"))

    def crossed(
        self, student: DenseOutput, teacher: DenseOutput, batch: Batch | None
    ) -> DenseOutput:
        """The cross-head predictions, with as many locations a cell as the teacher's."""
        found = self.heads(student.features, [*self.adapters], batch)
        alike = found.locations.levels == teacher.locations.levels
        return found if alike else per_cell(found)


class CrossKD(CrossHeadTerm):
    """The paper's two losses between cross-head predictions and the teacher's.

        sum_i sum_j |p^t - p^| BCE(p^, p^t) / positives                  quality focal loss, beta 1
        + sum_i w_i (1 - GIoU(b^, b^t)) / positives                            the teacher's boxes,
      or + 4 sum_i w_i mean_sides KL(d^t || d^) / sum_i w_i       where it has distributions (GFL)

    with w_i = max_j p^t_ij, over all valid locations i and classes j. As in the official code of
    GFL, RetinaNet and ATSS, |p^t - p^| takes part in the gradient. FCOS's weighs .4 and .75 (IoU),
    with both divided by the positives' centerness, ATSS's distils centerness too: neither here.
    The official sum of w_i is that of one GPU's images, ours the mean over the step's groups.
    What a value divides by grows with the images: it does not depend on the batch's size.
    """

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None,
    ) -> Tensor:
        """Unweighted scalar; 0 where the predictions are the teacher's."""
        found = self.crossed(student, teacher, batch)
        of_pair = (found, teacher, assignment)
        classes = binary_classification(*of_pair, gate_levels=False)
        if found.box_logits is not None:
            return CLASSES * classes + DISTRIBUTIONS * side_distributions(*of_pair)
        boxes = iou_localisation(*of_pair, weighting="teacher", gate_levels=False)
        return CLASSES * classes + GIOU * boxes


class CrossBCKD(CrossHeadTerm):
    """BCKD's two losses between cross-head predictions and the teacher's: own combination.

    L_cls + 4 L_loc as `bckd.losses.distillation` has them, at their official weights: divided by
    the number of positives, at the levels of a group that have one.
    """

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None,
    ) -> Tensor:
        """Unweighted scalar; 0 where the predictions are the teacher's."""
        of_pair = (self.crossed(student, teacher, batch), teacher, assignment)
        return BINARY * binary_classification(*of_pair) + IOU * iou_localisation(*of_pair)


def side_distributions(
    student: DenseOutput, teacher: DenseOutput, assignment: Assignment
) -> Tensor:
    """Divergence of the four sides' distributions, mean weighted by the teacher's top score.

        sum_i w_i mean_sides KL(softmax(d^t) || softmax(d^s)) / sum_i w_i,   w_i = max_j p^t_ij

    At temperature 1 (loss_reg_kd of the official GFL). Over all valid locations.

    Args:
        student, teacher: `box_logits` (N, A, 4, bins) each.
    """
    assert student.box_logits is not None and teacher.box_logits is not None
    weight = teacher.scores.detach().amax(dim=-1) * assignment.valid  # (N, A)
    log_target = teacher.box_logits.detach().log_softmax(dim=-1)
    log_student = student.box_logits.log_softmax(dim=-1)
    divergence = F.kl_div(log_student, log_target, reduction="none", log_target=True)
    per_location = divergence.sum(dim=-1).mean(dim=-1)
    return (weight * per_location).sum() / total_of_groups(weight, assignment, least=EPSILON)


def _adapter(ours: int, theirs: int) -> nn.Conv2d:
    adapter = nn.Conv2d(ours, theirs, 1)
    if ours == theirs:
        nn.init.dirac_(adapter.weight)
        assert adapter.bias is not None
        nn.init.zeros_(adapter.bias)
    return adapter

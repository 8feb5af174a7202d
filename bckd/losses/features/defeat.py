"""DeFeat: maps at objects and at background, each divided by its own number of cells."""

from __future__ import annotations

import torch
from torch import Tensor

from bckd.losses.features.objects import object_cells_inside
from bckd.losses.features.shared import FeatureTerm
from bckd.structures import Assignment, Batch, DenseOutput

# The author on COCO (ggjy/DeFeat.pytorch, issue 18); 3 and 12 in the configuration of Faster R-CNN
# on VOC that is published, configs/kd_faster_rcnn/voc_stu_faster_rcnn_r50_decouple_neck.py.
OBJECTS, BACKGROUND = 4.0, 16.0


class Decoupled(FeatureTerm):
    """The squared gap at objects and that at background, with their weights, to be summed with 1:

        mean_l  4 mean_(c, i in objects) g / 2 + 16 mean_(c, i elsewhere) g / 2,
        g = (f(x_s) - x_t)^2

    over the levels l of the pyramid, the teacher's channels c and the cells i of all images; f is
    an adapter a level, a mean over no cells is 0. Cells beyond an image are background. Guo et al.,
    CVPR 2021 (arXiv 2103.14475): its part on the maps of the neck. Left out are the same on the
    backbone's maps, which the author used beside it for the best result on COCO, and that on a
    two-stage detector's proposals; on a dense head BCKD's own terms are nearest to the latter.

    Weights and divisors are those of the official code (mmdet/apis/train.py), of which there is one
    of Faster R-CNN alone. It has an object on one level, whose stride is a 14th to a 28th of its
    size; LutingWang/HEAD's for RetinaNet (weights 1 : 4, a sum over channels / 256) and we have it
    on all: of small images, all objects would be on the finest. Its adapters are 3x3 convolutions,
    also between equal channels. What is one cell wide or high has one cell there, and its row or
    column here.
    """

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None = None,
    ) -> Tensor:
        """Scalar, of the pyramids' maps and the batch's boxes."""
        assert batch is not None  # the boxes are the ground truth's
        pairs = self.pairs(student, teacher)
        parts = []
        for level, (ours, theirs) in zip(student.locations.levels, pairs, strict=True):
            gaps = (ours - theirs).square().mean(dim=1)  # (N, H, W)
            inside = object_cells_inside(batch.ground_truth, level).any
            parts.append(OBJECTS * _mean_at(gaps, inside) + BACKGROUND * _mean_at(gaps, ~inside))
        return torch.stack(parts).mean()


def _mean_at(gaps: Tensor, mask: Tensor) -> Tensor:
    """Half the mean of (N, H, W) where the mask holds."""
    return (gaps * mask).sum() / (2 * mask.sum().clamp(min=1))

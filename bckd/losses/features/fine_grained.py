"""Fine-grained feature imitation: maps at the cells whose anchors are near an object."""

from __future__ import annotations

import torch
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.losses.features.shared import FeatureTerm
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth, Locations

# Of an object's best IoU with any anchor; twangnh/Distilling-Object-Detectors,
# lib/model/rpn/anchor_target_layer.py.
NEAR = 0.5
ANCHOR_SCALE = 8.0  # side of a point's square in strides, where a detector has no anchors; as ATSS


class FineGrained(FeatureTerm):
    """The squared gap at cells near objects, divided by twice their number.

        sum I (f(x_s) - x_t)^2 / (2 N),   N = sum I

    I is 1 at a cell one of whose anchors has an IoU with some object of more than half the best
    IoU of that object with any anchor. Sums are over levels, images, cells and channels; f is an
    adapter a level. Wang et al., CVPR 2019 (arXiv 1906.03609, equations 1 to 4).

    The official code has one map of 512 channels, of Faster R-CNN; the sum over channels and the
    divisor are its own (trainval_net_sup.py), and so is its weight of .01, to be tuned for other
    detectors as its author says (issue 1). Its adapter is a 3x3 convolution with a ReLU, and it
    begins after 400 steps. On a pyramid the best IoU is here that of all levels, so that an object
    is imitated where its size belongs. Others have the best of each level, each object on all of
    them (LutingWang/HEAD, RetinaNet, weight 1), or on the level of its size alone
    (ggjy/DeFeat.pytorch, weight 3 and means over channels and levels).
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
        near = near_objects(student.locations, batch.ground_truth)  # a mask (N, H, W) a level
        pairs = self.pairs(student, teacher)
        sums = [
            ((ours - theirs).square() * mask[:, None]).sum()
            for mask, (ours, theirs) in zip(near, pairs, strict=True)
        ]
        count = torch.stack([mask.sum() for mask in near]).sum()
        return torch.stack(sums).sum() / (2 * count.clamp(min=1))


def near_objects(locations: Locations, truth: GroundTruth) -> list[Tensor]:
    """(N, H, W) bool a level: an anchor of the cell is near an object."""
    anchors = locations.anchors
    if anchors is None:
        half = locations.strides[:, None] * ANCHOR_SCALE / 2
        anchors = torch.cat([locations.centres - half, locations.centres + half], dim=1)
    overlaps = box_similarity(truth.boxes[:, :, None], anchors, "iou")  # (N, G, A)
    overlaps = overlaps.masked_fill(~truth.objects[..., None], 0.0)
    best = overlaps.amax(dim=-1, keepdim=True)
    near = (overlaps > NEAR * best).any(dim=1)  # (N, A)
    masks = []
    for level, mask in zip(locations.levels, near.split(locations.counts, dim=1), strict=True):
        masks.append(mask.unflatten(1, (level.height, level.width, -1)).any(dim=-1))
    return masks

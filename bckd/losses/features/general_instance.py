"""GID: maps inside the boxes at which student and teacher differ most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.losses.features.shared import FeatureTerm
from bckd.losses.rows import Rows
from bckd.structures import Assignment, Batch, DenseOutput, Level

# The paper, and its first author's code of it on detectron2, daixinghome/Distill_GID_detectron2:
# GID/gid/config.py and GID/config/Distill_RetinaNet_T_Res101_S_Res50_2x.yaml.
COUNT = 10  # general instances an image
OVERLAP = 0.3  # IoU with a chosen one above which a box is no more chosen
LEAST_SIDE = 10.0  # pixels; a box that is not wider and higher is not chosen (distill_gid.py)
CELLS, SAMPLES = 10, 2  # of an instance's map a side; points of such a cell a side
FEATURE, RELATION = 5e-4, 40.0  # weights of the two parts

# Of a box's size, in strides of the coarsest level that it may be read from: detectron2's
# ROIPooler has boxes of 224 pixels on the level of stride 16.
STRIDES = 14.0


class GeneralInstances(FeatureTerm):
    """The feature and the relation part of general instance distillation, to be summed with 1:

        5e-4 mean_(k, i) sum_c (f(x_s)_kci - (x_t)_kci)^2
        + 40 mean_(k, m) smooth_l1(d_s(k, m) / mean d_s - d_t(k, m) / mean d_t)

    over an image's general instances k, channels c and cells i of an instance's map; d is the
    distance of two instances' maps, over pairs in one image, f an adapter a level. General
    instances are the ten boxes of an image with the largest max_j |p_t - p_s| that do not overlap,
    each the teacher's or the student's box, whoever has the higher score there. Its map is cut by
    RoIAlign out of the level that its size asks for: of small images, mostly the finest (Dai et
    al., CVPR 2021, arXiv 2103.02340). No label is looked at.

    Left out: the response part (scores and offsets at the anchors that a detector's own assigner
    would give to the chosen boxes, weights .1 and 1). Each family would need its own, and offsets
    cannot be compared between families; terms of responses can be added.

    The paper has the feature part as a mean of norms, the code as here. The code takes the gap of
    the highest scores for max_j |p_t - p_s|, has pairs across images too, and means its adapter, a
    3x3 convolution that all levels share, but never applies it.
    """

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None = None,
    ) -> Tensor:
        """Scalar, of the pyramids' maps, scores and boxes; 0 where nothing is chosen."""
        assert batch is not None  # for the images' sizes
        chosen = general_instances(student, teacher, assignment.valid, batch.sizes)
        pairs = [*self.pairs(student, teacher)]
        places = student.locations.levels
        ours, theirs = (_inside(maps, places, chosen) for maps in zip(*pairs, strict=True))
        gaps = (ours - theirs).square().sum(dim=2).mean(dim=(2, 3))  # (N, K)
        feature = (gaps * chosen.found).sum() / chosen.found.sum().clamp(min=1)
        relation = _relation_gap(ours.flatten(2), theirs.flatten(2), chosen.found)
        return FEATURE * feature + RELATION * relation


@dataclass(frozen=True)
class Instances:
    """The boxes at which two detectors differ most, by rows of fixed number.

    Attributes:
        boxes: (N, K, 4), best first, clipped to the image.
        found: (N, K) bool: the row has a box; others have any.
    """

    boxes: Tensor
    found: Tensor


@torch.no_grad()
def general_instances(
    student: DenseOutput, teacher: DenseOutput, valid: Tensor, sizes: Tensor
) -> Instances:
    """The `COUNT` boxes of each image at which the two differ most.

    Greedily, as non-maximum suppression picks them; in fixed shapes, for which no host waits.

    Args:
        valid: (N, A) bool: locations to choose from.
        sizes: (N, 2) height and width of the images.
    """
    pair = student.scores, teacher.scores
    surer = (pair[1].amax(dim=-1) > pair[0].amax(dim=-1))[..., None]
    limits = sizes.flip(1).repeat(1, 2)[:, None].to(student.boxes)
    boxes = torch.where(surer, teacher.boxes, student.boxes).clamp(min=0).minimum(limits)
    large = (boxes[..., 2:] - boxes[..., :2] > LEAST_SIDE).all(dim=-1)
    gap = (pair[0] - pair[1]).abs().amax(dim=-1).masked_fill(~(valid & large), -1.0)  # (N, A)
    chosen, found = [], []
    for _ in range(COUNT):
        best = gap.argmax(dim=1, keepdim=True)  # (N, 1)
        box = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        chosen.append(box)
        found.append(gap.gather(1, best) >= 0)
        gap = gap.masked_fill(box_similarity(box, boxes) > OVERLAP, -1.0)  # itself, too
    return Instances(torch.cat(chosen, dim=1), torch.cat(found, dim=1))


def _inside(maps: tuple[Tensor, ...], places: tuple[Level, ...], chosen: Instances) -> Tensor:
    """The maps (N, K, C, cells, cells) inside the boxes, 0 where none was found.

    Args:
        maps: (N, C, H, W) of each level.
        places: the levels, from fine to coarse.
    """
    # Late: see `bckd.models.backbones.base`.
    from torchvision.ops import roi_align

    size = (chosen.boxes[..., 2:] - chosen.boxes[..., :2]).prod(dim=-1).sqrt()  # (N, K)
    own = torch.stack([size >= STRIDES * place.stride for place in places]).int()
    own = own[1:].sum(dim=0)  # the finest level takes what is too small for all
    images = torch.arange(len(size), device=size.device)[:, None].expand_as(size)
    boxes = torch.cat([images[..., None].to(chosen.boxes), chosen.boxes], dim=-1)
    parts = []
    for number, (map_, place) in enumerate(zip(maps, places, strict=True)):
        rows = Rows.where(chosen.found & (own == number))
        scale = 1 / place.stride
        cut = roi_align(map_, rows.take(boxes), CELLS, scale, SAMPLES, aligned=True)
        parts.append(rows.put(cut))
    return torch.stack(parts).sum(dim=0)


def _relation_gap(ours: Tensor, theirs: Tensor, found: Tensor) -> Tensor:
    """The mean smooth L1 gap of distances, over all pairs of an image that were found.

    Args:
        ours, theirs: (N, K, D) the instances' maps.
        found: (N, K) bool.
    """
    others = ~torch.eye(found.shape[1], dtype=torch.bool, device=found.device)
    pairs = found[:, :, None] & found[:, None] & others  # (N, K, K)
    own, teachers = (_over_their_mean(x, pairs) for x in (ours, theirs))
    gaps = F.smooth_l1_loss(own, teachers, reduction="none")
    return (gaps * pairs).sum() / pairs.sum().clamp(min=1)


def _over_their_mean(x: Tensor, pairs: Tensor) -> Tensor:
    """(N, K, K) distances of (N, K, D), over the mean of the image's pairs."""
    # Not by a matrix product, in which what two maps share cancels badly; its slope at 0 is 0.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    count = pairs.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = (distances * pairs).sum(dim=(1, 2), keepdim=True) / count
    return distances / mean.clamp(min=1e-12)

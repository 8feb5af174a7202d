"""GID: maps inside the boxes at which student and teacher differ most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from bckd.geometry import box_similarity
from bckd.losses.features.shared import adapted, adapters_of
from bckd.losses.needs import needs
from bckd.structures import Assignment, Batch, DenseOutput, Level

# The paper was at hand in part only and no official code was found: these are its values as far as
# we know them, to be swept rather than trusted.
COUNT = 10  # general instances an image
OVERLAP = 0.3  # IoU with a chosen one above which a box is no more chosen
CELLS = 7  # of an instance's map, a side
FEATURE, RELATION = 5e-4, 40.0  # weights of the two parts


@needs("features")
class GeneralInstances(nn.Module):
    """The feature and the relation part of general instance distillation, with their weights.

        5e-4 sum_k |f(x_s)_k - (x_t)_k|^2 / N + 40 mean_(k, m) smooth_l1(d_s(k, m) - d_t(k, m))

    Ten boxes k an image, those with the largest max_j |p_t - p_s| that do not overlap, each the
    teacher's or the student's box, whoever is surer there; x_k is the map inside (RoIAlign, of the
    level that the box came from), d the distance of two instances' maps over its mean. Dai et al.,
    CVPR 2021 (arXiv 2103.02340). Left out: the response part, which is plain
    distillation of scores and boxes at the same places and goes by the weights of other terms.
    """

    def __init__(self, student: DenseOutput, teacher: DenseOutput) -> None:
        super().__init__()
        self.adapters = adapters_of(student, teacher)

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None,
    ) -> Tensor:
        """Scalar, of the pyramids' maps, scores and boxes."""
        boxes, levels = general_instances(student, teacher, assignment.valid)
        pairs = [*adapted(self.adapters, student, teacher)]
        places = student.locations.levels
        ours, theirs = (_inside([pair[n] for pair in pairs], places, boxes, levels) for n in (0, 1))
        feature = (ours - theirs).square().sum() / len(ours)
        gaps = F.smooth_l1_loss(_distances(ours), _distances(theirs))
        return FEATURE * feature + RELATION * gaps


@torch.no_grad()
def general_instances(
    student: DenseOutput, teacher: DenseOutput, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """The boxes (N, K, 4) at which the two differ most, and the level (N, K) of each.

    Greedily, as non-maximum suppression picks them; in fixed shapes, for which no host waits.
    """
    pair = student.scores, teacher.scores
    gap = (pair[0] - pair[1]).abs().amax(dim=-1).masked_fill(~valid, -1.0)  # (N, A)
    surer = (pair[1].amax(dim=-1) >= pair[0].amax(dim=-1))[..., None]
    boxes = torch.where(surer, teacher.boxes, student.boxes)
    counts = student.locations.counts
    level_of = torch.cat([valid.new_full((n,), i, dtype=torch.long) for i, n in enumerate(counts)])
    chosen = []
    for _ in range(COUNT):
        best = gap.argmax(dim=1, keepdim=True)  # (N, 1)
        box = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        gap = gap.masked_fill(box_similarity(box, boxes, "iou") > OVERLAP, -1.0)
        gap = gap.scatter(1, best, -1.0)
        chosen.append(best)
    places = torch.cat(chosen, dim=1)
    return boxes.gather(1, places[..., None].expand(-1, -1, 4)), level_of[places]


def _inside(maps: list[Tensor], places: tuple[Level, ...], boxes: Tensor, levels: Tensor) -> Tensor:
    """Maps (N, K, C * cells) inside the boxes, each of its own level."""
    images, count = levels.shape
    numbers = torch.arange(images, device=boxes.device)
    index = numbers.repeat_interleave(count, output_size=levels.numel())
    rows = torch.cat([index[:, None], boxes.flatten(0, 1)], dim=1)
    each = [
        roi_align(map_, rows, CELLS, spatial_scale=1 / place.stride, aligned=True)
        for map_, place in zip(maps, places, strict=True)
    ]
    own = torch.stack(each)  # (L, N * K, C, cells, cells)
    chosen = levels.flatten()[None, :, None, None, None].expand_as(own[:1])
    return own.gather(0, chosen)[0].flatten(1).unflatten(0, (images, count))


def _distances(x: Tensor) -> Tensor:
    """(N, K, K) distances of instances' maps (N, K, D), over their mean in the image."""
    squares = (x[:, :, None] - x[:, None]).square().sum(dim=-1)
    distances = squares.clamp(min=1e-12).sqrt()  # a root has no slope at 0
    pairs = distances.shape[1] * (distances.shape[1] - 1)
    return distances / (distances.sum(dim=(1, 2), keepdim=True) / pairs).clamp(min=1e-6)

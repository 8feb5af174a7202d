"""FGD: objects and background apart, by the teacher's attention, and the relation of all cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.losses.features.objects import ObjectCells, object_cells
from bckd.losses.features.shared import FeatureTerm
from bckd.structures import Assignment, Batch, DenseOutput

# yzd-v/FGD, configs/distillers/fgd, the same in those of RetinaNet and GFL. FCOS has .8, 1.6e-3,
# 8e-4, 8e-4 and 8e-6, RepPoints the same at .5, two-stage detectors a tenth and less. (The 1e-3 for
# gamma that stands in losses/fgd.py is a default that each configuration replaces.)
TEMPERATURE = 0.5  # of attention
FOREGROUND = 1e-3  # alpha
BACKGROUND = 5e-4  # beta
ATTENTION = 5e-4  # gamma
RELATION = 5e-6  # lambda


class FocalAndGlobal(FeatureTerm):
    """Four parts a level, with the official weights, to be summed with the weight 1:

        alpha sum_cells S_fg A_s A_c (f(x_s) - x_t)^2 + beta sum_cells S_bg A_s A_c (f(x_s) - x_t)^2
        + gamma (|A_s - A_s'| + |A_c - A_c'|) + lambda sum (R_s(f(x_s)) - R_t(x_t))^2

    A_s = HW softmax(mean_c |x| / T) and A_c = C softmax(mean_cells |x| / T) are the teacher's
    attention to cells and channels, A' the student's; S_fg is 1 over the cells of the smallest
    object there, S_bg 1 over those of the background; f is an adapter a level, R a GcBlock that
    learns, on either side. Yang et al., CVPR 2022 (arXiv 2111.11837, equations 3 to 12). All sums
    are an image's, the mean over images and the sum over levels, as in the official code, where
    they are also over 256 channels and the cells of images of 800 pixels.

    The official code has rows and columns of the objects' mask exchanged; here a cell is where it
    is in the image, as in the paper. It scales boxes by the image's size to the map's, also where
    the map is of a padded image; here by the stride. Its students start from the teacher's neck and
    head, and gradients are clipped at 35: `inherit` and `clip_norm` are a recipe's.
    """

    def __init__(self, student: DenseOutput, teacher: DenseOutput) -> None:
        super().__init__(student, teacher)
        channels = [x.shape[1] for x in teacher.features]
        self.relations = nn.ModuleList(_Relation(count) for count in channels)
        self.teachers_relations = nn.ModuleList(_Relation(count) for count in channels)

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        batch: Batch | None = None,
    ) -> Tensor:
        """Scalar, of the pyramids' maps and the batch's boxes."""
        assert batch is not None  # the boxes are the ground truth's
        levels = student.locations.levels
        parts = []
        for n, (ours, theirs) in enumerate(self.pairs(student, teacher)):
            cells = object_cells(batch.ground_truth, levels[n])
            relation = self.relations[n](ours) - self.teachers_relations[n](theirs)
            parts.append(_focal(ours, theirs, cells) + RELATION * relation.square().sum())
        return torch.stack(parts).sum() / len(student.cls_logits)


class _Relation(nn.Module):
    """A GcBlock: what all cells say together, added to each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.attention = nn.Conv2d(channels, 1, 1)
        self.change = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LayerNorm([hidden, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )
        nn.init.kaiming_normal_(self.attention.weight, mode="fan_in")
        for name, parameter in self.named_parameters():
            if name == "attention.bias" or name.startswith("change.3."):  # at first no change
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W)."""
        weights = self.attention(x).flatten(2).softmax(dim=-1)  # (N, 1, HW)
        context = (x.flatten(2) * weights).sum(dim=-1)[..., None, None]
        return x + self.change(context)


def _focal(ours: Tensor, theirs: Tensor, cells: ObjectCells) -> Tensor:
    spatial, channel = _attention(theirs)
    own_spatial, own_channel = _attention(ours)
    background = ~cells.any
    counts = background.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    weights = FOREGROUND * cells.scale + BACKGROUND * background / counts  # (N, H, W)
    gaps = (ours - theirs).square() * channel[..., None, None] * (spatial * weights)[:, None]
    attention = (spatial - own_spatial).abs().sum() + (channel - own_channel).abs().sum()
    return gaps.sum() + ATTENTION * attention


def _attention(x: Tensor) -> tuple[Tensor, Tensor]:
    """To cells (N, H, W), mean 1, and to channels (N, C), mean 1."""
    size = x.abs()
    cells = size.mean(dim=1)
    spatial = (cells.flatten(1) / TEMPERATURE).softmax(dim=1) * cells[0].numel()
    channel = (size.mean(dim=(2, 3)) / TEMPERATURE).softmax(dim=1) * x.shape[1]
    return spatial.view_as(cells), channel

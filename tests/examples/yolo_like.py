"""A worked example: a small detector without anchors, as YOLO's are, that learns and teaches.

Its forward gives a `DenseOutput`; that is all that distillation asks for. Its `supervision` is
what it learns from labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bckd.assigners import AssignmentRules, assign_fcos
from bckd.geometry import box_similarity, boxes_to_distances, distances_to_boxes, grid
from bckd.losses.focal import distribution_focal_loss, quality_focal_loss
from bckd.losses.options import LossOptions
from bckd.models.heads.head import SupervisedTerm
from bckd.structures import Assignment, DenseOutput, GroundTruth

STRIDES = (8, 16, 32)


class YoloLike(nn.Module):
    """One point at the middle of a cell; each side's distance is the mean of a distribution."""

    def __init__(self, num_classes: int, channels: int = 16, bins: int = 9) -> None:
        super().__init__()
        steps = [_step(3, channels), _step(channels, channels)]  # to a quarter of the image
        self.stem = nn.Sequential(*steps)
        self.down = nn.ModuleList(_step(channels, channels) for _ in STRIDES)
        self.tower = nn.Sequential(_step(channels, channels, stride=1))  # shared by all levels
        self.predict = nn.Conv2d(channels, num_classes + 4 * bins, 1)
        self.num_classes, self.bins = num_classes, bins
        self.supervision = Supervision()
        nn.init.constant_(self.predict.bias[:num_classes], -4.6)  # scores of .01

    def forward(self, images: Tensor) -> DenseOutput:
        x, pyramid = self.stem(images), []
        for down in self.down:
            x = down(x)
            pyramid.append(x)
        rows = [self.predict(self.tower(x)).flatten(2).transpose(1, 2).float() for x in pyramid]
        logits, sides = torch.cat(rows, dim=1).split([self.num_classes, 4 * self.bins], dim=-1)
        box_logits = sides.unflatten(-1, (4, self.bins))
        places = grid([x.shape[-2:] for x in pyramid], STRIDES, images.device, offset=0.5)
        strides = torch.arange(self.bins, device=images.device, dtype=torch.float32)
        distances = (box_logits.softmax(-1) * strides).sum(-1) * places.strides[:, None]
        boxes = distances_to_boxes(places.centres, distances)
        return DenseOutput(logits, boxes, places, box_logits, features=tuple(pyramid))


def _step(channels_in: int, channels: int, stride: int = 2) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(4, channels), nn.SiLU())


class Supervision:
    """FCOS's assignment, and GFL's three losses, which read no anchors here."""

    def __init__(self) -> None:
        self.terms = {
            "scores": SupervisedTerm(1.0, "quality focal loss"),
            "sides": SupervisedTerm(0.25, "distribution focal loss"),
            "overlap": SupervisedTerm(2.0, "GIoU loss"),
        }

    def assign(
        self, output: DenseOutput, truth: GroundTruth, padded_sizes: Tensor, rules: AssignmentRules
    ) -> Assignment:
        classes = output.cls_logits.shape[-1]
        return assign_fcos(output.locations, truth, classes, rules.crowd, rules.images_per_group)

    def losses(
        self, output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        image, place = assignment.positive.nonzero(as_tuple=True)
        boxes, targets = output.boxes[image, place], assignment.boxes[image, place]
        quality = torch.zeros_like(assignment.valid, dtype=torch.float32)
        quality[image, place] = box_similarity(boxes.detach(), targets).clamp(0, 1)
        scores = quality_focal_loss(output, assignment.labels, quality)
        sides = boxes_to_distances(output.locations.centres[place], targets)
        sides = sides / output.locations.strides[place, None]
        found = {
            "scores": (scores * assignment.counted).sum(),
            "sides": distribution_focal_loss(output.box_logits[image, place], sides).sum(),
            "overlap": (1 - box_similarity(boxes, targets, "giou")).sum(),
        }
        return {name: value / assignment.num_positives for name, value in found.items()}

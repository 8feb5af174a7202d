"""What a family of detectors is: its head, what it learns from labels, and its defaults.

A head is two towers over every pyramid level, then one convolution for class logits and
one for boxes; it differs from another in what a box is made of, in which locations learn which
box, and by what losses. A family's file holds all of it; a line in `bckd.models.heads` names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bckd.assigners import AssignmentRules
from bckd.losses.options import LossOptions
from bckd.models.fpn import ExtraLevels
from bckd.structures import Assignment, DenseOutput, GroundTruth, Locations


@dataclass(frozen=True)
class Defaults:
    """What a family's official recipe has where a configuration says nothing.

    Attributes:
        extra_levels: what the levels above the backbone's are made of.
        nms_iou: see `PostProcess`.
        anchor_scale: side of an anchor, or of the smallest, in strides; read by no head
            without anchors.
    """

    extra_levels: ExtraLevels
    nms_iou: float
    anchor_scale: float = 8.0


@dataclass(frozen=True)
class SupervisedTerm:
    """One of a family's losses from labels.

    Attributes:
        weight: its official weight.
        title: what it is, in words.
    """

    weight: float
    title: str


@dataclass(frozen=True)
class HeadSettings:
    """What a head is built from; each takes what it needs.

    Attributes:
        channels: of the pyramid and the towers.
        strides: of the levels, in pixels.
        convs: convolutions of a tower.
        groups: of GroupNorm.
        anchor_scale: side of an anchor, or of the smallest, in strides.
        reg_max: a side's distribution is over 0, 1, ..., reg_max strides.
    """

    channels: int = 256
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    convs: int = 4
    groups: int = 32
    anchor_scale: float = 8.0
    reg_max: int = 16


class Head(nn.Module):
    """A family's head.

    Args:
        num_classes: K.

    Attributes:
        title: the family's name as papers write it.
        defaults: of its official recipe.
        terms: its losses from labels, by the name that configuration and log give them. A name
            that another family has too has the same weight there.
        reads: what its losses read of a dense output beside logits and boxes, by field.
        official: how mmdetection's files call its convolutions for classes, boxes and quality;
            none where there is no official code of it.
        strides: of the levels, in pixels.
    """

    title: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    defaults: ClassVar[Defaults]
    terms: ClassVar[dict[str, SupervisedTerm]]
    official: ClassVar[tuple[str, ...]] = ()
    strides: tuple[int, ...]

    def __init__(self, num_classes: int, settings: HeadSettings) -> None:
        super().__init__()
        self.strides = tuple(settings.strides)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        raise NotImplementedError

    @staticmethod
    def locations(
        shapes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        anchor_scale: float,
        device: torch.device | str = "cpu",
    ) -> Locations:
        """Where it predicts on levels of these heights and widths in cells."""
        raise NotImplementedError

    @staticmethod
    def assign(
        output: DenseOutput,
        ground_truth: GroundTruth,
        padded_sizes: Tensor,
        rules: AssignmentRules,
    ) -> Assignment:
        """What each location of a batch shall learn.

        Args:
            output: the student's.
            ground_truth: boxes (N, G, 4) and labels; images without boxes are fine, and learn
                that there is nothing, unless they are not labelled.
            padded_sizes: (N, 2) height and width beyond which nothing is valid.
        """
        raise NotImplementedError

    @staticmethod
    def losses(
        output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        """Its unweighted losses from labels, by the names of `terms`."""
        raise NotImplementedError

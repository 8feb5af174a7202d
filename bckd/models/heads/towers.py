"""A head of two towers: one convolution after the other for classes, and others for boxes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from bckd.models.heads.head import Head
from bckd.structures import DenseOutput


class TowerHead(Head):
    """What a tower makes of a map goes on to a convolution that predicts.

    Attributes:
        cls_tower, box_tower: see `bckd.models.heads.layers.tower`; the same for all levels.
        cls: what predicts class logits.
        scales: one factor a level; not all heads have these.
    """

    cls_tower: nn.Sequential
    box_tower: nn.Sequential
    cls: nn.Conv2d
    scales: nn.ModuleList

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """Dense output of the pyramid's L maps (N, channels, H, W)."""
        return self.from_maps(pyramid, pyramid, tuple(pyramid))

    def from_maps(
        self,
        for_classes: Sequence[Tensor],
        for_boxes: Sequence[Tensor],
        features: tuple[Tensor, ...] = (),
    ) -> DenseOutput:
        """Dense output of the L maps (N, channels, H, W) that each tower is given.

        Args:
            features: of the output.
        """
        raise NotImplementedError

    def start_of_towers(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Both towers up to what the activation before their last convolution takes.

        They share their parameters with the head. Of a single convolution there is nothing.
        """
        return _in_two(self.cls_tower)[0], _in_two(self.box_tower)[0]

    def rest(self, strides: tuple[int, ...]) -> Self:
        """The head that goes on where `start_of_towers` ends; it shares its parameters with this.

        Args:
            strides: of the levels that it is for, among the head's.
        """
        rest = copy.copy(self)
        rest._modules = dict(self._modules)  # else it would share the table of parts, to be changed
        rest.cls_tower, rest.box_tower = _in_two(rest.cls_tower)[1], _in_two(rest.box_tower)[1]
        kept = [stride in strides for stride in self.strides]
        if hasattr(rest, "scales"):
            pairs = zip(rest.scales, kept, strict=True)
            rest.scales = nn.ModuleList(scale for scale, keep in pairs if keep)
        rest.strides = tuple(strides)
        return rest


def _in_two(tower: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """A tower up to the activation before its last convolution, and from that on."""
    flat = [module for layer in tower for module in layer]  # type: ignore[attr-defined]
    last = len(tower[-1]) if len(tower) else 0  # type: ignore[arg-type]
    cut = len(flat) - last - (1 if len(tower) > 1 else 0)
    return nn.Sequential(*flat[:cut]), nn.Sequential(*flat[cut:])

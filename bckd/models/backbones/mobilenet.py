"""MobileNetV2 (Sandler et al., CVPR 2018), torchvision's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from bckd.models.backbones.base import Backbone, replace_activations, torchvision_model
from bckd.models.backbones.strided_depthwise import replace_strided_depthwise

if TYPE_CHECKING:  # torchvision is loaded where a network is built
    from torchvision.models import mobilenetv2

LEAKY_SLOPE = 0.1  # of the official student


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 with maps of 32, 96 and 320 channels.

    The official BCKD student uses LeakyReLU of slope 0.1 instead of ReLU6, and
    maps of 24, 32, 96 and 320 channels of which the pyramid takes the last three.
    The classifier's convolution to 1280 channels is left out: no map uses it.

    Args:
        weights: name of torchvision's ImageNet weights, or None.
        leaky: with LeakyReLU.
        frozen_stages: 0 for none, 1 for the stem and the first group of blocks, up to 7.
        norm_eval: BatchNorm in eval mode while training.

    Raises:
        InputError: no such weights.
    """

    channels = (32, 96, 320)
    _stages = ((0, 7), (7, 14), (14, 18))  # torchvision's blocks that end in C3, C4, C5

    def __init__(
        self, weights: str | None, leaky: bool, frozen_stages: int, norm_eval: bool
    ) -> None:
        super().__init__()
        net: mobilenetv2.MobileNetV2 = torchvision_model("mobilenet_v2", weights)
        self.features = net.features[:18]
        replace_strided_depthwise(self.features)
        if leaky:
            replace_activations(self.features, nn.ReLU6, LEAKY_SLOPE)
        # mmdetection counts the stem, then seven groups of blocks that end here.
        ends = (1, 2, 4, 7, 11, 14, 17, 18)
        last = ends[frozen_stages] if frozen_stages else 0
        self.freeze([self.features[:last]] if last else [], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of C3 to C5, (N, C, H, W) each, of normalised images (N, 3, H, W)."""
        maps, x = [], images
        for first, last in self._stages:
            for block in self.features[first:last]:
                x = block(x)
            maps.append(x)
        return maps

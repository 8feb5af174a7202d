"""ShuffleNetV2 (Ma et al., ECCV 2018), torchvision's at width 1: the backbone of NanoDet-m."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bckd.models.backbones.base import Backbone, replace_activations, torchvision_model
from bckd.system.errors import InputError
from bckd.weights.published import fetch
from bckd.weights.tensor_files import fill, read_saved

if TYPE_CHECKING:  # torchvision is loaded where a network is built
    from torchvision.models import shufflenetv2

LEAKY_SLOPE = 0.1  # NanoDet-m's
DETECTOR = "nanodet_m"  # the published detector whose backbone this is
_PART = "backbone."  # of its weights


class ShuffleNetV2(Backbone):
    """torchvision's ShuffleNetV2 with maps of 116, 232 and 464 channels.

    The classifier's convolution to 1024 channels is left out, as in NanoDet-m: no map uses it.

    Args:
        weights: name of torchvision's ImageNet weights; or "nanodet_m", those of the published
            detector, which have learnt to detect COCO's objects; or None.
        leaky: with LeakyReLU of slope 0.1, as NanoDet-m has it, instead of ReLU.
        frozen_stages: 0 for none, 1 for the stem and the first stage, up to 3.
        norm_eval: BatchNorm in eval mode while training.
        bgr: the images' channels are blue, green, red, as the detector was trained; its weights
            are turned to read red, green, blue otherwise. Mean and deviation are ImageNet's in
            either order.

    Raises:
        InputError: no such weights; the detector's without `leaky`; or their file is not as
            published, does not fit, or could not be fetched.
    """

    channels = (116, 232, 464)

    def __init__(
        self,
        weights: str | None,
        leaky: bool,
        frozen_stages: int,
        norm_eval: bool,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        of_detector = weights == DETECTOR
        own = None if of_detector else weights
        net: shufflenetv2.ShuffleNetV2 = torchvision_model("shufflenet_v2_x1_0", own)
        self.conv1, self.maxpool = net.conv1, net.maxpool
        self.stage2, self.stage3, self.stage4 = net.stage2, net.stage3, net.stage4
        if leaky:
            replace_activations(self, nn.ReLU, LEAKY_SLOPE)
        if of_detector:
            self._fill_from_detector(leaky, bgr)
        stages = [self.conv1, self.stage2, self.stage3, self.stage4]
        self.freeze(stages[: frozen_stages + 1] if frozen_stages else [], norm_eval)

    def _fill_from_detector(self, leaky: bool, bgr: bool) -> None:
        if not leaky:
            raise InputError(f"leaky is False: expected True beside the weights of {DETECTOR}")
        try:
            saved = read_saved(fetch(DETECTOR))["state_dict"]
        except InputError as error:
            raise InputError(f"{error}; or start without them by --model.no-pretrained") from error
        own = {x.removeprefix(_PART): y for x, y in saved.items() if x.startswith(_PART)}
        fill(self, own, f"weights of {DETECTOR}", "do not fit its backbone")
        if not bgr:
            first = self.conv1[0].weight
            first.data = first.data.flip(1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of C3 to C5, (N, C, H, W) each, of normalised images (N, 3, H, W)."""
        maps, x = [], self.maxpool(self.conv1(images))
        for stage in (self.stage2, self.stage3, self.stage4):
            for block in stage:
                x = _through(block, x)
            maps.append(x)
        return maps


def _through(block: shufflenetv2.InvertedResidual, x: Tensor) -> Tensor:
    """What the block computes, (N, C', H', W') of (N, C, H, W).

    Its own forward shuffles channels by views that lay channels-last maps out anew; here maps keep
    their layout, as those of other backbones do. The numbers are the same, bit by bit.
    """
    kept, changed = x.chunk(2, dim=1) if block.stride == 1 else (block.branch1(x), x)
    return F.channel_shuffle(torch.cat((kept, block.branch2(changed)), dim=1), 2)

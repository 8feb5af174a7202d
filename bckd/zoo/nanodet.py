"""NanoDet-m: a dense detector of GFL's family of 0.95 million parameters, for its weights.

Source: the published configuration and weights of NanoDet-m (github.com/RangiLyu/nanodet,
Apache-2.0), trained by quality and distribution focal loss at 320 x 320 pixels. It serves as
a detector that is trained on COCO and small enough to run anywhere.

Modules bear the names of the published state dict, so that its entries need no map.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.image_size import ImageSize
from bckd.models.backbones.shufflenet import LEAKY_SLOPE as SLOPE
from bckd.models.backbones.shufflenet import ShuffleNetV2
from bckd.models.dense import DenseDetector
from bckd.models.heads.gfl import decode
from bckd.models.heads.layers import ExactConv2d
from bckd.models.postprocess import PostProcess
from bckd.normalisation import NANODET
from bckd.structures import DenseOutput
from bckd.weights.tensor_files import fill
from bckd.zoo.official import LoadReport

# The image in the middle of a black square. At the top left of a grey one, AP is a point lower.
SIZE = ImageSize(short_side=320, long_side=320, pad_multiple=320, centred=True)

STRIDES = (8, 16, 32)
CHANNELS = 96  # of the pyramid and the head
CONVS = 2  # of a level's tower
REG_MAX = 7
ANCHOR_SCALE = 5.0  # side of an anchor in strides, in training; the configuration's
OFFSET = 0.5  # of the centres, in cells

# Entries of the published file that no computation reads: boxes come from gfl_cls as well,
# and the bins of a side are the constants 0, 1, ..., reg_max.
_UNUSED = ("head.gfl_reg.", "head.distribution_project.")


class NanoDet(DenseDetector):
    """NanoDet-m with random weights, until `load_nanodet` fills in the published ones.

    Args:
        class_names: the K classes; the published weights have COCO's 80.
    """

    normalisation = NANODET

    def __init__(self, class_names: tuple[str, ...] = COCO_CLASSES) -> None:
        super().__init__()
        self.class_names, self.strides = tuple(class_names), STRIDES
        self.settings = PostProcess()
        self.backbone = ShuffleNetV2(None, leaky=True, frozen_stages=0, norm_eval=False)
        self.fpn = _PathAggregation()
        self.head = _Head(len(self.class_names))

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        pyramid = self.fpn(self.backbone(images))
        cls_maps, box_maps = self.head(pyramid)
        return decode(cls_maps, box_maps, STRIDES, ANCHOR_SCALE, tuple(pyramid), OFFSET)


class _PathAggregation(nn.Module):
    """A pyramid that adds each level to its neighbour: downwards first, then upwards.

    Without activation, and without convolutions after the additions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, CHANNELS, 1)))
            for channels in ShuffleNetV2.channels
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, 96, H, W) of the levels, from fine to coarse, of the backbone's maps."""
        maps = [layer(x) for layer, x in zip(self.lateral_convs, stages, strict=True)]
        for fine in range(len(maps) - 2, -1, -1):
            maps[fine] = maps[fine] + _resized(maps[fine + 1], maps[fine])
        for coarse in range(1, len(maps)):
            maps[coarse] = maps[coarse] + _resized(maps[coarse - 1], maps[coarse])
        return maps


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


class _Head(nn.Module):
    """Per level a tower of its own and one convolution to classes and side distributions."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        outputs = num_classes + 4 * (REG_MAX + 1)
        self.cls_convs = nn.ModuleList(
            nn.Sequential(*(_SeparableConv() for _ in range(CONVS))) for _ in STRIDES
        )
        self.gfl_cls = nn.ModuleList(ExactConv2d(CHANNELS, outputs, 1) for _ in STRIDES)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (N, K, H, W) and side logits (N, 4 * 8, H, W) of each level."""
        layers = zip(self.gfl_cls, self.cls_convs, pyramid, strict=True)
        maps = [predict(tower(x)) for predict, tower, x in layers]
        return [x[:, : self.num_classes] for x in maps], [x[:, self.num_classes :] for x in maps]


class _SeparableConv(nn.Module):
    """A 3x3 convolution a channel, then a 1x1 convolution; each with BatchNorm and LeakyReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
        self.dwnorm = nn.BatchNorm2d(CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
        self.pwnorm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.dwnorm(self.depthwise(x)), SLOPE)
        return F.leaky_relu(self.pwnorm(self.pointwise(x)), SLOPE)


def is_nanodet(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of NanoDet-m, by their names."""
    return "head.gfl_cls.0.weight" in state_dict


def load_nanodet(detector: NanoDet, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Copy NanoDet-m's published state dict into the detector; all or nothing.

    Args:
        state_dict: the "state_dict" of the published file.

    Raises:
        InputError: as `fill`.
    """
    unused = [name for name in state_dict if name.startswith(_UNUSED)]
    used = {name: value for name, value in state_dict.items() if name not in unused}
    fill(detector, used, "weights", "do not fit NanoDet-m")
    return LoadReport(tuple(detector.state_dict()), tuple(unused))

"""Backbones: an image becomes maps at strides 8, 16 and 32 (C3, C4, C5). One file a family.

ResNets, MobileNetV2, ShuffleNetV2 and Swin-T are torchvision's, without their classifier; the
small ResNet is ours, for the embedded benchmark; timm's models go by timm:NAME. Every backbone has
`channels`, those of its three maps.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import tyro
from pydantic import AfterValidator

from bckd.models.backbones.base import Backbone
from bckd.models.backbones.mobilenet import MobileNetV2
from bckd.models.backbones.resnet import ResNet
from bckd.models.backbones.shufflenet import ShuffleNetV2
from bckd.models.backbones.small_resnet import SmallResNet
from bckd.models.backbones.swin import SwinT
from bckd.models.backbones.timm_models import PREFIX, TimmBackbone
from bckd.system.errors import InputError

__all__ = ["BACKBONES", "Backbone", "BackboneName", "build_backbone"]

OwnBackbone = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "shufflenet_v2_x1_0",
    "swin_t",
    "small_resnet",
]
BACKBONES: tuple[str, ...] = get_args(OwnBackbone)
_LEAKY = ("mobilenet_v2", "shufflenet_v2_x1_0")  # backbones that `leaky` is for
_STAGES = {"mobilenet_v2": 7, "shufflenet_v2_x1_0": 3}  # that can be frozen; 4 where not named


def _known(name: str) -> str:
    if name not in BACKBONES and not name.startswith(PREFIX):
        raise ValueError(f"one of {', '.join(BACKBONES)}, or timm:NAME")
    return name


BackboneName = Annotated[
    str, AfterValidator(_known), tyro.conf.arg(metavar=f"{{{','.join(BACKBONES)},timm:NAME}}")
]


def build_backbone(
    name: BackboneName,
    weights: str | None = None,
    width: int = 32,
    frozen_stages: int = 0,
    norm_eval: bool = False,
    leaky: bool = False,
    caffe: bool = False,
    bgr: bool = False,
) -> Backbone:
    """A backbone by name.

    Args:
        name: one of `BACKBONES`, or timm:NAME.
        weights: torchvision's ImageNet weights to start from, such as
            "IMAGENET1K_V1" (downloaded into TORCH_HOME when absent), or of a leaky ShuffleNetV2
            "nanodet_m", those of the published detector; None: random.
        width: channels of the small ResNet's first stage; the others have their own.
        frozen_stages: stages that do not learn; 0 for none, 1 for the stem and
            the first stage (the COCO recipe), up to 4 (MobileNetV2: 7, ShuffleNetV2: 3).
        norm_eval: BatchNorm in eval mode during training (the COCO recipe).
        leaky: MobileNetV2 with LeakyReLU, as the official student has it; ShuffleNetV2 with it,
            as NanoDet-m.
        caffe: ResNet-50 or -101 with the stride in a bottleneck's first convolution.
        bgr: the images' channels come as blue, green, red; nanodet_m's weights, which were trained
            so, are turned where they do not.

    Raises:
        InputError: unknown name or weights, no such number of stages, `leaky` or `caffe` of a
            backbone that can't be so, nanodet_m's weights without `leaky`, or a small ResNet with
            pretrained weights or frozen stages; the download failed; or a file does not hold the
            weights that it should.
    """
    _check(name, weights, frozen_stages, leaky, caffe)
    if name.startswith(PREFIX):
        return TimmBackbone(name, weights is not None, norm_eval)
    match name:
        case "small_resnet":
            return SmallResNet(width, norm_eval)
        case "mobilenet_v2":
            return MobileNetV2(weights, leaky, frozen_stages, norm_eval)
        case "shufflenet_v2_x1_0":
            return ShuffleNetV2(weights, leaky, frozen_stages, norm_eval, bgr)
        case "swin_t":
            return SwinT(weights, frozen_stages, norm_eval)
        case _:
            return ResNet(name, weights, frozen_stages, norm_eval, caffe)


def _check(name: str, weights: str | None, frozen_stages: int, leaky: bool, caffe: bool) -> None:
    """Refuse what no backbone of that name can be."""
    if name not in BACKBONES and not name.startswith(PREFIX):
        known = ", ".join(BACKBONES)
        raise InputError(f"backbone {name!r} is unknown; expected one of {known}, or timm:NAME")
    if name.startswith(PREFIX) and frozen_stages:
        raise InputError(f"frozen_stages is {frozen_stages}; expected 0 of a backbone of timm")
    if name == "small_resnet" and (weights or frozen_stages):
        raise InputError(
            "backbone 'small_resnet' learns from scratch: expected pretrained False and "
            f"frozen_stages 0, got {bool(weights)} and {frozen_stages}"
        )
    stages = _STAGES.get(name, 4)
    if not 0 <= frozen_stages <= stages:
        raise InputError(f"frozen_stages is {frozen_stages}: {name} has 0 to {stages}")
    if leaky and name not in _LEAKY:
        raise InputError(
            f"leaky is True: expected False of {name}, {' and '.join(_LEAKY)} alone can be so"
        )
    if caffe and name not in ("resnet50", "resnet101"):
        raise InputError(
            f"caffe is True: expected False of {name}, which has no bottlenecks "
            "(resnet50 and resnet101 have)"
        )

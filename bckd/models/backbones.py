"""Backbones: an image becomes maps at strides 8, 16 and 32 (C3, C4, C5).

ResNets and MobileNetV2 are torchvision's, without their classifier; the small
ResNet is ours, for the embedded benchmark. Every backbone has `channels`, those
of its three maps.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch
import torchvision
from torch import Tensor, nn

from bckd.errors import InputError

BackboneName = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "small_resnet"
]
LEAKY_SLOPE = 0.1  # of the official MobileNetV2 student


class Backbone(nn.Module):
    """Freezing, shared by all backbones.

    Attributes:
        channels: channels of C3, C4, C5.
        frozen: stages that do not learn (no gradient, BatchNorm in eval mode).
        norm_eval: keep every BatchNorm in eval mode while training.
    """

    channels: tuple[int, int, int]
    frozen: list[nn.Module]
    norm_eval: bool

    def freeze(self, frozen: list[nn.Module], norm_eval: bool) -> None:
        """Stop the gradient of `frozen`; fix BatchNorm's statistics if `norm_eval`."""
        self.frozen, self.norm_eval = frozen, norm_eval
        for stage in frozen:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As in every module, but what is fixed stays in eval mode."""
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class ResNet(Backbone):
    """torchvision's ResNet-18, -34, -50 or -101 up to C5; keys are torchvision's."""

    def __init__(self, name: str, pretrained: bool, frozen_stages: int, norm_eval: bool) -> None:
        super().__init__()
        net = _torchvision_model(name, pretrained)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        widest = net.fc.in_features
        self.channels = (widest // 4, widest // 2, widest)
        stem = nn.ModuleList([self.conv1, self.bn1])
        stages = [stem, self.layer1, self.layer2, self.layer3, self.layer4]
        self.freeze(stages[: frozen_stages + 1] if frozen_stages else [], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        """C3, C4, C5 of normalised images (N, 3, H, W)."""
        c2 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c3, c4, self.layer4(c4)]


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 with maps of 32, 96 and 320 channels.

    The official BCKD student uses LeakyReLU of slope 0.1 instead of ReLU6, and
    maps of 24, 32, 96 and 320 channels of which the pyramid takes the last three.
    The classifier's convolution to 1280 channels is left out: no map uses it.
    """

    channels = (32, 96, 320)
    _stages = ((0, 7), (7, 14), (14, 18))  # torchvision's blocks that end in C3, C4, C5

    def __init__(self, pretrained: bool, leaky: bool, frozen_stages: int, norm_eval: bool) -> None:
        super().__init__()
        net = _torchvision_model("mobilenet_v2", pretrained)
        self.features = net.features[:18]
        if leaky:
            _replace_relu6(self.features)
        # mmdetection counts the stem, then seven groups of blocks that end here.
        ends = (1, 2, 4, 7, 11, 14, 17, 18)
        last = ends[frozen_stages] if frozen_stages else 0
        self.freeze([self.features[:last]] if last else [], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        """C3, C4, C5 of normalised images (N, 3, H, W)."""
        maps, x = [], images
        for first, last in self._stages:
            for block in self.features[first:last]:
                x = block(x)
            maps.append(x)
        return maps


def _replace_relu6(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
        else:
            _replace_relu6(child)


class SmallResNet(Backbone):
    """A ResNet of any width for small images: one residual block a stage.

    The stem halves the image, four stages of 1, 2, 4 and 4 times `width` channels
    halve it again: maps at strides 8, 16 and 32 leave the last three.
    """

    def __init__(self, width: int, norm_eval: bool = False) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.stem = _conv_norm(3, width, stride=2)
        self.stages = nn.ModuleList(
            _ResidualBlock(before, after)
            for before, after in zip((width, *widths[:-1]), widths, strict=True)
        )
        self.channels = widths[1:]
        self.freeze([], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        """C3, C4, C5 of normalised images (N, 3, H, W)."""
        x, maps = self.stem(images).relu(), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions of stride 2 and 1; the shortcut averages, then projects."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels_in, channels_out, stride=2)
        self.conv2 = _conv_norm(channels_out, channels_out)
        # Averaging first, not a 1x1 convolution of stride 2: it sees every pixel, and
        # the strided one crashes some CPU builds of torch in the backward pass.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), _conv_norm(channels_in, channels_out, size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()


def _conv_norm(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _torchvision_model(name: str, pretrained: bool) -> nn.Module:
    """torchvision's classifier, with its ImageNet weights (version 1) if `pretrained`."""
    if not pretrained:
        return torchvision.models.get_model(name, weights=None)
    try:
        return torchvision.models.get_model(name, weights="IMAGENET1K_V1")
    except (OSError, RuntimeError) as error:  # no network, or a file of another hash
        raise InputError(
            f"ImageNet weights of {name} are not in {torch.hub.get_dir()} and could not be "
            f"downloaded ({error}); start without them by --model.no-pretrained"
        ) from error


def build_backbone(
    name: BackboneName,
    pretrained: bool = False,
    width: int = 32,
    frozen_stages: int = 0,
    norm_eval: bool = False,
    leaky: bool = False,
) -> Backbone:
    """A backbone by name.

    Args:
        name: see `BackboneName`.
        pretrained: start from torchvision's ImageNet weights (downloaded into
            TORCH_HOME when absent).
        width: channels of the small ResNet's first stage; the others have their own.
        frozen_stages: stages that do not learn; 0 for none, 1 for the stem and
            the first stage (the COCO recipe), up to 4 (MobileNetV2: 7).
        norm_eval: BatchNorm in eval mode during training (the COCO recipe).
        leaky: MobileNetV2 with LeakyReLU, as the official student has it.

    Raises:
        InputError: unknown name, no such number of stages, or a small ResNet with
            pretrained weights or frozen stages; or the download failed.
    """
    if name not in get_args(BackboneName):
        known = ", ".join(get_args(BackboneName))
        raise InputError(f"backbone {name!r} is unknown; expected one of {known}")
    if name == "small_resnet":
        if pretrained or frozen_stages:
            raise InputError(
                "backbone 'small_resnet' learns from scratch: expected pretrained False and "
                f"frozen_stages 0, got {pretrained} and {frozen_stages}"
            )
        return SmallResNet(width, norm_eval)
    stages = 7 if name == "mobilenet_v2" else 4
    if not 0 <= frozen_stages <= stages:
        raise InputError(f"frozen_stages is {frozen_stages}: {name} has 0 to {stages}")
    if name == "mobilenet_v2":
        return MobileNetV2(pretrained, leaky, frozen_stages, norm_eval)
    return ResNet(name, pretrained, frozen_stages, norm_eval)

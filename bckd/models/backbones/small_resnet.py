"""A small ResNet of our own, for the embedded benchmark."""

from __future__ import annotations

from torch import Tensor, nn

from bckd.models.backbones.base import Backbone


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

"""ResNet (He et al., CVPR 2016), torchvision's, and Caffe's variant of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from bckd.models.backbones.base import Backbone, torchvision_model

if TYPE_CHECKING:  # torchvision is loaded where a network is built
    from torchvision.models import resnet


class ResNet(Backbone):
    """torchvision's ResNet-18, -34, -50 or -101 up to C5; keys are torchvision's.

    Args:
        name: torchvision's, such as "resnet50".
        weights: name of torchvision's ImageNet weights, or None.
        frozen_stages: 0 for none, 1 for the stem and the first stage, up to 4.
        norm_eval: BatchNorm in eval mode while training.
        caffe: the stride in a bottleneck's first convolution, not in its second (ResNet-50
            and -101).

    Raises:
        InputError: no such weights.
    """

    def __init__(
        self, name: str, weights: str | None, frozen_stages: int, norm_eval: bool, caffe: bool
    ) -> None:
        super().__init__()
        net: resnet.ResNet = torchvision_model(name, weights)
        if caffe:
            _stride_first(net)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        widest = net.fc.in_features
        self.channels = (widest // 4, widest // 2, widest)
        stem = nn.ModuleList([self.conv1, self.bn1])
        stages = [stem, self.layer1, self.layer2, self.layer3, self.layer4]
        self.freeze(stages[: frozen_stages + 1] if frozen_stages else [], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        c2 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c3, c4, self.layer4(c4)]


def _stride_first(net: nn.Module) -> None:
    """Move the stride of every bottleneck from its second convolution to its first."""
    from torchvision.models.resnet import Bottleneck

    for block in net.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride

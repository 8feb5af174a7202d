"""The detector: backbone, pyramid and head joined, built from one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from bckd.models.backbones import BackboneName, build_backbone
from bckd.models.fpn import FPN
from bckd.models.gfl import GFLHead
from bckd.models.postprocess import PostProcess, postprocess
from bckd.structures import DenseOutput, Detections


@dataclass(frozen=True)
class DetectorConfig:
    """A GFL detector. The defaults are those of the official ResNet-50 COCO recipe."""

    backbone: BackboneName = "resnet50"
    pretrained: bool = True  # start the backbone from torchvision's ImageNet weights
    width: int = 32  # channels of the small ResNet's first stage; others have their own
    frozen_stages: int = 1  # stages that do not learn; 0: none
    norm_eval: bool = True  # BatchNorm in eval mode while training
    leaky: bool = False  # MobileNetV2 with LeakyReLU 0.1, as the official student
    channels: int = 256  # of the pyramid and the head
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)  # of the pyramid's levels, in pixels
    head_convs: int = 4  # convolutions of each of the head's two towers
    head_groups: int = 32  # of the head's GroupNorm
    reg_max: int = 16  # largest side distance, in strides
    anchor_scale: float = 8.0  # ATSS anchor side, in strides
    postprocess: PostProcess = field(default_factory=PostProcess)


class Detector(nn.Module):
    """A dense detector whose forward returns the raw dense output, in training too.

    Attributes:
        config: what it was built from.
        class_names: the K class names, in the order of the labels.
    """

    def __init__(self, config: DetectorConfig, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.class_names = config, tuple(class_names)
        self.backbone = build_backbone(
            config.backbone,
            config.pretrained,
            config.width,
            config.frozen_stages,
            config.norm_eval,
            config.leaky,
        )
        self.neck = FPN(self.backbone.channels, config.channels, len(config.strides))
        self.head = GFLHead(
            len(class_names),
            config.channels,
            config.strides,
            config.head_convs,
            config.head_groups,
            config.reg_max,
        )

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        return self.head(self.neck(self.backbone(images)))

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Detections of N images; `sizes` (N, 2) are heights and widths without padding."""
        return postprocess(self(images), sizes, self.config.postprocess)

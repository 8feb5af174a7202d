"""The detector: backbone, pyramid and head joined, built from one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from bckd.models.backbones import BackboneName, build_backbone
from bckd.models.dense import DenseDetector
from bckd.models.fpn import FPN
from bckd.models.heads import HEADS, HeadName
from bckd.models.heads.head import HeadSettings
from bckd.models.postprocess import PostProcess
from bckd.normalisation import IMAGENET, Normalisation
from bckd.structures import DenseOutput
from bckd.system.values import CountOrZero, Layers, Scale, Strides, Width


@dataclass(frozen=True)
class DetectorConfig:
    """A detector. The defaults are those of GFL's official ResNet-50 COCO recipe."""

    head: HeadName = "gfl"  # the detector's family
    backbone: BackboneName = "resnet50"
    pretrained: bool = True  # start the backbone from published weights
    weights: str = "IMAGENET1K_V1"  # torchvision's name of them; or nanodet_m (leaky ShuffleNetV2)
    width: Width = 32  # channels of the small ResNet's first stage; others have their own
    frozen_stages: CountOrZero = 1  # stages that do not learn; 0: none
    norm_eval: bool = True  # BatchNorm in eval mode while training
    norm_learns: bool = True  # weights and biases of the backbone's BatchNorm learn (FCOS: no)
    leaky: bool = False  # MobileNetV2, ShuffleNetV2: LeakyReLU 0.1, as in BCKD and NanoDet-m
    caffe: bool = False  # ResNet with the stride in a bottleneck's first convolution
    channels: Width = 256  # of the pyramid and the head
    strides: Strides = (8, 16, 32, 64, 128)  # of the pyramid's levels, in pixels
    head_convs: Layers = 4  # convolutions of each of the head's two towers
    head_groups: Width = 32  # of the head's GroupNorm (RetinaNet's has none)
    reg_max: Width = 16  # GFL: largest side distance, in strides
    anchor_scale: Scale | None = None  # side of an anchor in strides; None: the family's own
    normalisation: Normalisation = field(default_factory=lambda: IMAGENET)
    postprocess: PostProcess = field(default_factory=lambda: PostProcess(nms_iou=None))

    def resolved(self) -> DetectorConfig:
        """The same with its family's own values in place of every None."""
        own, settings = HEADS[self.head].defaults, self.postprocess
        scale = own.anchor_scale if self.anchor_scale is None else self.anchor_scale
        nms_iou = own.nms_iou if settings.nms_iou is None else settings.nms_iou
        return replace(self, anchor_scale=scale, postprocess=replace(settings, nms_iou=nms_iou))

    @property
    def head_settings(self) -> HeadSettings:
        """What the head is built from; of a configuration that is resolved."""
        assert self.anchor_scale is not None  # it is resolved
        return HeadSettings(
            channels=self.channels,
            strides=self.strides,
            convs=self.head_convs,
            groups=self.head_groups,
            anchor_scale=self.anchor_scale,
            reg_max=self.reg_max,
        )


class Detector(DenseDetector):
    """A detector of one of four families whose forward returns the raw dense output.

    Attributes:
        config: what it was built from, resolved.
    """

    def __init__(self, config: DetectorConfig, class_names: tuple[str, ...]) -> None:
        super().__init__()
        config = config.resolved()
        self.config, self.class_names = config, tuple(class_names)
        self.strides, self.settings = config.strides, config.postprocess
        self.normalisation = config.normalisation
        self.backbone = build_backbone(
            config.backbone,
            config.weights if config.pretrained else None,
            config.width,
            config.frozen_stages,
            config.norm_eval,
            config.leaky,
            config.caffe,
            config.normalisation.bgr,
        )
        if not config.norm_learns:
            self.backbone.fix_norms()
        extra = HEADS[config.head].defaults.extra_levels
        self.neck = FPN(self.backbone.channels, config.channels, len(config.strides), extra)
        self.supervision = HEADS[config.head]
        self.head = self.supervision(len(class_names), config.head_settings)

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        return self.head(self.neck(self.backbone(images)))

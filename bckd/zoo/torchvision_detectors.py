"""torchvision's dense detectors, FCOS and two RetinaNets trained on COCO, with a raw dense output.

torchvision's own forward returns losses in training and detections in evaluation. Here its
backbone, head, anchor generator and box coder give the dense output in both; `detect` finds
what torchvision finds in the same images.

What differs from our detectors of the same families is kept, since the weights were trained
with it:

- Neighbouring centres of a level are `padded side // cells` pixels apart, which is less than the
  stride where it does not divide the padded side (at 800 pixels: 61 and 114, not 64 and 128).
  `centres` and `anchors` are torchvision's, the `strides` are the nominal ones.
- FCOS's points are the upper left corners of the cells, not their middles.
- torchvision rounds the sides of a resized image down, our `SIZE` to the nearest pixel.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from bckd.errors import InputError
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.heads.layers import exact
from bckd.models.postprocess import PostProcess
from bckd.normalisation import Normalisation
from bckd.structures import DenseOutput, Level, Locations
from bckd.weights.torchvision_models import with_published

TorchvisionName = Literal[
    "fcos_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"
]
SIZE = ImageSize()  # torchvision's recipe: 800 by at most 1333 pixels, padded to 32
STRIDES = (8, 16, 32, 64, 128)
_LEARNING = ("layer2", "layer3", "layer4")  # stages of a trained backbone that take a gradient
NO_CLASS = ("__background__", "N/A")  # outputs of torchvision that stand for no class of COCO


class TorchvisionDetector(DenseDetector):
    """One of torchvision's dense detectors, for COCO's 80 classes.

    torchvision has 91 class outputs, of which 11 were trained to be 0 everywhere; `cls_logits`
    leaves these out. In training mode its modules do what they do there: with weights, FCOS and
    the first RetinaNet have frozen batch norms, the second RetinaNet has learning ones; stem and
    first stage take no gradient.

    Args:
        name: the model, as torchvision calls it.
        weights: torchvision's weights, "COCO_V1" (downloaded into TORCH_HOME when absent); None:
            random.

    Attributes:
        model: torchvision's own.
        columns: (80,) the class outputs of torchvision that are ours, in order.

    Raises:
        InputError: unknown name or weights, or the download failed.
    """

    columns: Tensor

    def __init__(self, name: str, weights: str | None) -> None:
        super().__init__()
        self.model = _torchvision_model(name, weights)
        _make_exact(self.model)
        categories = get_model_weights(name).COCO_V1.meta["categories"]
        columns = [k for k, category in enumerate(categories) if category not in NO_CLASS]
        self.class_names = tuple(categories[k] for k in columns)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.strides = STRIDES
        transform = self.model.transform
        self.normalisation = Normalisation(tuple(transform.image_mean), tuple(transform.image_std))
        self.settings = PostProcess(
            score_threshold=self.model.score_thresh,
            candidates_per_level=self.model.topk_candidates,
            nms_iou=self.model.nms_thresh,
            max_detections=self.model.detections_per_img,
            quality="geometric_mean",
        )

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        features = tuple(self.model.backbone(images).values())
        raw = {name: x.float() for name, x in self.model.head(list(features)).items()}
        anchors, cls_logits = self._anchors(images, features), raw["cls_logits"][..., self.columns]
        locations, coder = self._locations(anchors, features), self.model.box_coder
        offsets = raw["bbox_regression"]  # (N, A, 4): FCOS's distances in strides, or deltas
        if isinstance(self.model, FCOS):
            boxes, quality = coder.decode(offsets, anchors), raw["bbox_ctrness"].squeeze(-1)
            return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)
        boxes = coder.decode_single(offsets.flatten(0, 1), anchors.repeat(len(images), 1))
        boxes = boxes.view_as(offsets)
        return DenseOutput(cls_logits, boxes, locations, deltas=offsets, features=features)

    def _anchors(self, images: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        """(A, 4) torchvision's anchors; FCOS has squares of a stride about its points."""
        # The generator takes sizes, device and type of the maps: half precision would cost pixels.
        maps = [x[:1, :1].float() for x in features]
        (anchors,) = self.model.anchor_generator(ImageList(images, [images.shape[-2:]]), maps)
        return anchors

    def _locations(self, anchors: Tensor, features: tuple[Tensor, ...]) -> Locations:
        (per_cell, *_) = self.model.anchor_generator.num_anchors_per_location()
        levels = tuple(
            Level(stride, x.shape[-2], x.shape[-1], per_cell)
            for stride, x in zip(STRIDES, features, strict=True)
        )
        strides = torch.cat([anchors.new_full((x.count,), x.stride) for x in levels])
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        return Locations(
            centres, strides, levels, None if isinstance(self.model, FCOS) else anchors
        )


def _make_exact(model: FCOS | RetinaNet) -> None:
    """What becomes boxes, or their centerness, in float32 under autocast too."""
    head = model.head.regression_head
    for name in ("bbox_reg", "bbox_ctrness"):
        if hasattr(head, name):
            setattr(head, name, exact(getattr(head, name)))


def _torchvision_model(name: str, weights: str | None) -> FCOS | RetinaNet:
    """torchvision's detector, with its weights of that name."""
    if name not in get_args(TorchvisionName):
        known = ", ".join(get_args(TorchvisionName))
        raise InputError(f"torchvision detector {name!r} is unknown; expected one of {known}")
    if weights is None:
        return get_model(name, weights=None, weights_backbone=None)
    return with_published(partial(_fixed, name), name, weights)


def _fixed(name: str) -> FCOS | RetinaNet:
    """The detector with what torchvision fixes of a backbone that comes with weights."""
    model = get_model(name, weights=None, weights_backbone=None)
    body = model.backbone.body
    for parameter_name, parameter in body.named_parameters():
        if not parameter_name.startswith(_LEARNING):
            parameter.requires_grad_(False)
    if name != "retinanet_resnet50_fpn_v2":
        _freeze_norms(body, eps=0.0 if name == "retinanet_resnet50_fpn" else 1e-5)
    return model


def _freeze_norms(module: nn.Module, eps: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            _freeze_norms(child, eps)

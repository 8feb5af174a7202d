"""torchvision's dense detectors, FCOS and RetinaNet, with a raw dense output: teachers, students.

torchvision's own forward returns losses in training and detections in evaluation. Here its
backbone, head, anchor generator and box coder give the dense output in both; `detect` finds
what torchvision finds in the same images.

What differs from our detectors of the same families is kept, since published weights were trained
with it:

- Neighbouring centres of a level are `padded side // cells` pixels apart, which is less than the
  stride where it does not divide the padded side (at 800 pixels: 61 and 114, not 64 and 128).
  `centres` and `anchors` are torchvision's, the `strides` are the nominal ones.
- FCOS's points are the upper left corners of the cells, not their middles, and its distances are
  strides times what a ReLU lets through.
- torchvision rounds the sides of a resized image down, our `SIZE` to the nearest pixel.

As students they learn by our families, whose deltas, anchors a cell and ranges of sizes are
torchvision's too. Its own losses differ: they are means over images, and box losses are GIoU of
FCOS and of the second RetinaNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, get_model, get_model_weights
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.heads import HEADS
from bckd.models.heads.layers import exact
from bckd.models.postprocess import PostProcess
from bckd.normalisation import Normalisation
from bckd.structures import DenseOutput, Level, Locations
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.system.values import Names
from bckd.weights.torchvision_models import TorchvisionName, with_published

SIZE = ImageSize()  # torchvision's recipe: 800 by at most 1333 pixels, padded to 32
STRIDES = (8, 16, 32, 64, 128)
FAMILIES: dict[TorchvisionName, str] = {
    name: name.partition("_")[0] for name in get_args(TorchvisionName)
}
_LEARNING = ("layer2", "layer3", "layer4")  # stages of a trained backbone that take a gradient
NO_CLASS = ("__background__", "N/A")  # outputs of torchvision that stand for no class of COCO
_COCO = "COCO_V1"
_BACKBONE = "resnet50"  # of all of them
_CLASSES = "head.classification_head.cls_logits."  # parameters that depend on the classes


def dense_from_torchvision(
    model: FCOS | RetinaNet,
    images: Tensor,
    strides: Sequence[int] = STRIDES,
    columns: Tensor | Sequence[int] | None = None,
) -> DenseOutput:
    """What a FCOS or RetinaNet of torchvision's says of a batch, in training as in evaluation.

    Its backbone, anchors and head may be of one's own; its transform is passed over. Boxes are
    rounded under autocast, unless `keep_boxes_exact` was called once.

    Args:
        model: from `torchvision.models.detection`.
        images: (N, 3, H, W), normalised and padded.
        strides: of the backbone's L maps, in pixels.
        columns: which of the model's class outputs are the K classes, in their order; None: all.
            torchvision's own losses count from 1, so that a model that was trained with them
            has a background at 0, which `range(1, K + 1)` leaves out.

    Raises:
        InputError: it is another model, or has another number of levels.
    """
    if not isinstance(model, FCOS | RetinaNet):
        raise InputError(
            f"the model is {type(model).__name__}; expected torchvision's FCOS or RetinaNet"
        )
    found = model.backbone(images)
    features = (found,) if isinstance(found, Tensor) else tuple(found.values())
    if len(features) != len(strides):
        raise InputError(f"the model has maps of {len(features)} levels; expected {len(strides)}")
    raw = {name: x.float() for name, x in model.head(list(features)).items()}
    anchors, coder = _anchors(model, images, features), model.box_coder
    locations = _locations(model, anchors, features, strides)
    cls_logits = raw["cls_logits"] if columns is None else raw["cls_logits"][..., columns]
    offsets = raw["bbox_regression"]  # (N, A, 4): FCOS's distances in strides, or deltas
    if isinstance(model, FCOS):
        boxes, quality = coder.decode(offsets, anchors), raw["bbox_ctrness"].squeeze(-1)
        return DenseOutput(cls_logits, boxes, locations, quality=quality, features=features)
    boxes = coder.decode_single(offsets.flatten(0, 1), anchors.repeat(images.shape[0], 1))
    boxes = boxes.view_as(offsets)
    return DenseOutput(cls_logits, boxes, locations, deltas=offsets, features=features)


def keep_boxes_exact(model: FCOS | RetinaNet) -> None:
    """Let what becomes boxes, or their centerness, be computed in float32 under autocast too."""
    head = model.head.regression_head
    for name in ("bbox_reg", "bbox_ctrness"):
        if hasattr(head, name):
            setattr(head, name, exact(getattr(head, name)))


class TorchvisionModel(DenseDetector):
    """A FCOS or RetinaNet of torchvision's, of any classes, backbone and anchors, as a detector.

    It learns by our family of that name.

    Args:
        model: from `torchvision.models.detection`; it is what learns.
        class_names, strides, columns: as `dense_from_torchvision` takes them.

    Raises:
        InputError: the model has as many class outputs as there are neither names nor columns.
    """

    columns: Tensor | None

    def __init__(
        self,
        model: FCOS | RetinaNet,
        class_names: Sequence[str],
        strides: Sequence[int] = STRIDES,
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        keep_boxes_exact(model)
        self.model, self.class_names, self.strides = model, tuple(class_names), tuple(strides)
        chosen = None if columns is None else torch.tensor(list(columns))
        self.register_buffer("columns", chosen, persistent=False)
        count = model.head.classification_head.num_classes if chosen is None else len(chosen)
        if count != len(self.class_names):
            raise InputError(
                f"the model has {count} class outputs; expected {len(self.class_names)}, one a "
                f"class name (`columns` chooses among them)"
            )
        self.supervision = HEADS["fcos" if isinstance(model, FCOS) else "retinanet"]
        transform = model.transform
        self.normalisation = Normalisation(tuple(transform.image_mean), tuple(transform.image_std))
        self.settings = PostProcess(
            score_threshold=model.score_thresh,
            candidates_per_level=model.topk_candidates,
            nms_iou=model.nms_thresh,
            max_detections=model.detections_per_img,
            quality="geometric_mean",
        )

    def forward(self, images: Tensor) -> DenseOutput:
        """Dense output of normalised, padded images (N, 3, H, W)."""
        return dense_from_torchvision(self.model, images, self.strides, self.columns)


@dataclass(frozen=True)
class TorchvisionConfig:
    """What a `TorchvisionDetector` is built from; see there."""

    name: TorchvisionName
    weights: str | None = None
    class_names: Names | None = None


class TorchvisionDetector(TorchvisionModel):
    """One of torchvision's dense detectors by its name, for any classes.

    For COCO's 80 it has torchvision's 91 class outputs, of which 11 were trained to be 0
    everywhere; `cls_logits` leaves these out. For others it has an output a class, and none for
    the background. In training mode its modules do what they do there: with weights, FCOS and
    the first RetinaNet have frozen batch norms, the second RetinaNet has learning ones; stem and
    first stage take no gradient.

    Args:
        name: the model, as torchvision calls it.
        weights: torchvision's weights (downloaded into TORCH_HOME when absent): "COCO_V1" of all
            of it, but for the class outputs where classes are named; or those of the backbone
            alone, such as "IMAGENET1K_V1". None: random.
        class_names: the K classes; None: COCO's.
        fetch: False where other weights will replace these: then all are random.

    Attributes:
        model: torchvision's own.
        columns: (K,) the class outputs of torchvision that are ours, in order.
        config: what it was built from.

    Raises:
        InputError: unknown name or weights, or the download failed.
    """

    def __init__(
        self,
        name: TorchvisionName,
        weights: str | None = None,
        class_names: Sequence[str] | None = None,
        fetch: bool = True,
    ) -> None:
        _check_known(name, weights)
        categories = get_model_weights(name).COCO_V1.meta["categories"]
        columns = [k for k, category in enumerate(categories) if category not in NO_CLASS]
        names, outputs = tuple(categories[k] for k in columns), len(categories)
        if class_names is not None:
            names, outputs = tuple(class_names), len(class_names)
            columns = list(range(outputs))
        build = partial(_built, name, weights, outputs)
        keep = "" if class_names is None else _CLASSES
        model = _with_weights(build, name, weights, keep) if fetch and weights else build()
        super().__init__(model, names, columns=columns)
        self.config = TorchvisionConfig(name, weights, None if class_names is None else names)


def _anchors(model: FCOS | RetinaNet, images: Tensor, features: tuple[Tensor, ...]) -> Tensor:
    """(A, 4) torchvision's anchors; FCOS has squares of a stride about its points."""
    # The generator takes sizes, device and type of the maps: half precision would cost pixels.
    maps = [x[:1, :1].float() for x in features]
    (anchors,) = model.anchor_generator(ImageList(images, [images.shape[-2:]]), maps)
    return anchors


def _locations(
    model: FCOS | RetinaNet,
    anchors: Tensor,
    features: tuple[Tensor, ...],
    strides: Sequence[int],
) -> Locations:
    (per_cell, *_) = model.anchor_generator.num_anchors_per_location()  # of all: one head
    levels = tuple(
        Level(stride, x.shape[-2], x.shape[-1], per_cell)
        for stride, x in zip(strides, features, strict=True)
    )
    per_location = torch.cat([anchors.new_full((x.count,), x.stride) for x in levels])
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    return Locations(centres, per_location, levels, None if isinstance(model, FCOS) else anchors)


def _check_known(name: str, weights: str | None) -> None:
    known = get_args(TorchvisionName)
    if name not in known:
        raise InputError(f"torchvision detector {name!r} is unknown; {expected(name, known)}")
    of_name = [_COCO, *(entry.name for entry in ResNet50_Weights)]
    if weights is not None and weights not in of_name:
        listed = expected(weights, of_name)
        raise InputError(f"torchvision has no weights {weights!r} of {name}; {listed}")


def _with_weights(
    build: partial[FCOS | RetinaNet], name: TorchvisionName, weights: str, keep: str
) -> FCOS | RetinaNet:
    """torchvision's detector with its weights of that name, or with a backbone's."""
    if weights == _COCO:
        return with_published(build, name, weights, keep)
    model = build()
    with_published(lambda: model.backbone.body, _BACKBONE, weights, leave="fc.")
    return model


def _built(name: TorchvisionName, weights: str | None, outputs: int) -> FCOS | RetinaNet:
    """The detector with what torchvision fixes of one whose backbone comes with weights."""
    model = get_model(name, weights=None, weights_backbone=None, num_classes=outputs)
    if weights is None:
        return model
    body = model.backbone.body
    for parameter_name, parameter in body.named_parameters():
        if not parameter_name.startswith(_LEARNING):
            parameter.requires_grad_(False)
    if name != "retinanet_resnet50_fpn_v2":
        first = (name, weights) == ("retinanet_resnet50_fpn", _COCO)
        _freeze_norms(body, eps=0.0 if first else 1e-5)
    return model


def _freeze_norms(module: nn.Module, eps: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            _freeze_norms(child, eps)

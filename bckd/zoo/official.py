"""State dicts of the official code and of mmdetection 2.x, loaded by a key map.

The official zoo's names on the right; ours on the left:

    backbone.*                       backbone.*  (ResNet: torchvision's names, the same)
    neck.lateral.i, neck.output.i    neck.lateral_convs.i.conv, neck.fpn_convs.i.conv
    head.cls_tower.i.0 / .1          bbox_head.cls_convs.i.conv / .gn
    head.box_tower.i.0 / .1          bbox_head.reg_convs.i.conv / .gn
    head.cls, head.box               bbox_head.gfl_cls, bbox_head.gfl_reg
                                     (retina_cls, conv_cls, atss_cls and so on)
    head.quality                     bbox_head.conv_centerness, bbox_head.atss_centerness
    head.scales.i.scale              bbox_head.scales.i.scale
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bckd.models.backbones import BackboneName
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.heads import HEADS, HeadName
from bckd.models.heads.retinanet import OCTAVES, RATIOS
from bckd.normalisation import CAFFE
from bckd.system.errors import InputError
from bckd.system.telling import first_of
from bckd.weights.tensor_files import check_fit

_RULES = (
    (r"^neck\.lateral\.(\d+)\.", r"neck.lateral_convs.\1.conv."),
    (r"^neck\.output\.(\d+)\.", r"neck.fpn_convs.\1.conv."),
    (r"^head\.cls_tower\.(\d+)\.0\.", r"bbox_head.cls_convs.\1.conv."),
    (r"^head\.cls_tower\.(\d+)\.1\.", r"bbox_head.cls_convs.\1.gn."),
    (r"^head\.box_tower\.(\d+)\.0\.", r"bbox_head.reg_convs.\1.conv."),
    (r"^head\.box_tower\.(\d+)\.1\.", r"bbox_head.reg_convs.\1.gn."),
    (r"^head\.scales\.", "bbox_head.scales."),
)
# The convolutions behind the towers, of the families that have an official layout.
_PREDICTORS = {name: head.official for name, head in HEADS.items() if head.official}
_MOBILENET_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # blocks of mmdetection's layer1 to layer7

# Entries of an official file that no computation of ours reads.
_UNUSED = (
    re.compile(r"^bbox_head\.integral\.project$"),  # the constant 0, 1, ..., reg_max
    re.compile(r"^backbone\.conv2\.(conv|bn)\.|^backbone\.fc\."),  # after the last map
)


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of an official state dict, by official name.

    Attributes:
        loaded: copied into the detector.
        unused: present in the file, read by nothing in a detector (the constant
            bins of the integral, convolutions behind the last map).
    """

    loaded: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        unused = f"; unused: {', '.join(self.unused)}" if self.unused else ""
        return f"{len(self.loaded)} entries loaded{unused}"


def official_name(name: str, head: HeadName) -> str:
    """The official name of an entry of our state dict, of a detector with that head."""
    if name.startswith("backbone.features."):
        return _mobilenet_name(name)
    for ours, theirs in zip(("cls", "box", "quality"), _PREDICTORS[head], strict=False):
        if name.startswith(f"head.{ours}."):
            return name.replace(f"head.{ours}.", f"bbox_head.{theirs}.", 1)
    for pattern, replacement in _RULES:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return name


def _mobilenet_name(name: str) -> str:
    """backbone.features.4.conv.1.0.weight becomes backbone.layer3.0.depthwise_conv.conv.weight."""
    _, _, index, *rest = name.split(".")
    part = {"0": "conv", "1": "bn"}
    if index == "0":
        return f"backbone.conv1.{part[rest[0]]}.{rest[1]}"
    block, layer = int(index) - 1, 0
    while block >= _MOBILENET_BLOCKS[layer]:
        block -= _MOBILENET_BLOCKS[layer]
        layer += 1
    # The first block has no expansion; torchvision leaves the linear convolution bare.
    names = ["depthwise_conv"] if layer == 0 else ["expand_conv", "depthwise_conv"]
    position = int(rest[1])
    if position < len(names):
        tail = f"{names[position]}.{part[rest[2]]}.{rest[3]}"
    else:
        tail = f"linear_conv.{part[str(position - len(names))]}.{rest[2]}"
    return f"backbone.layer{layer + 1}.{block}.{tail}"


def load_official(detector: Detector, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Copy an official state dict into the detector; all or nothing.

    Args:
        state_dict: entries as in a checkpoint of mmdetection 2.x or of the BCKD
            repository (its "state_dict").

    Raises:
        InputError: an entry is missing, unexpected, of another shape or type, or not finite;
            the detector is left as it was.
    """
    own, head = detector.state_dict(), detector.config.head
    names = {official_name(name, head): name for name in own}
    unused = [name for name in state_dict if any(rule.search(name) for rule in _UNUSED)]
    used = {name: value for name, value in state_dict.items() if name not in unused}
    misfit = f"do not fit {head} on {detector.config.backbone}"
    wanted = {theirs: own[ours] for theirs, ours in names.items()}
    check_fit(wanted, used, "official weights", misfit)
    detector.load_state_dict({ours: state_dict[name] for name, ours in names.items()})
    return LoadReport(tuple(names), tuple(unused))


def official_state_dict(detector: Detector) -> dict[str, Tensor]:
    """The detector's weights under the official names, as mmdetection 2.x would save them.

    `load_official` reads them back exactly. GFL's constant bins are there, MobileNetV2's
    unused last convolution is not.
    """
    head = detector.config.head
    state_dict = {official_name(name, head): x for name, x in detector.state_dict().items()}
    if head == "gfl":
        bins = torch.arange(detector.config.reg_max + 1, dtype=torch.float32)
        state_dict["bbox_head.integral.project"] = bins
    return state_dict


def has_layout(detector: Detector) -> bool:
    """Whether the official code has a key layout for such a detector."""
    backbone = detector.config.backbone
    known = backbone == "mobilenet_v2" or backbone.startswith("resnet")
    return known and detector.config.head in _PREDICTORS


def config_of_official(state_dict: Mapping[str, Tensor]) -> tuple[DetectorConfig, int]:
    """The configuration and number of classes of an official checkpoint, from its entries.

    FCOS is taken for the official zoo's, whose ResNets are all Caffe's.

    Raises:
        InputError: it is none of the four detectors, or not on ResNet or MobileNetV2.
    """
    heads = [
        head for head, (cls, *_) in _PREDICTORS.items() if f"bbox_head.{cls}.weight" in state_dict
    ]
    if not heads:
        known = ", ".join(f"bbox_head.{cls}.weight" for cls, *_ in _PREDICTORS.values())
        raise InputError(
            f"not a checkpoint of GFL, RetinaNet, FCOS or ATSS: none of {known}; its entries are "
            f"{first_of([*state_dict])}"
        )
    head = heads[0]
    cls, box = (_rows(state_dict, f"bbox_head.{name}.weight") for name in _PREDICTORS[head][:2])
    if box is None:
        raise InputError(f"bbox_head.{_PREDICTORS[head][1]}.weight is missing")
    backbone = _backbone_of(state_dict)
    model = DetectorConfig(
        head=head,
        backbone=backbone,
        pretrained=False,
        leaky=backbone == "mobilenet_v2",
        **_sizes(state_dict),
    )
    per_cell = 1
    match head:
        case "gfl":
            model = replace(model, reg_max=box // 4 - 1)
        case "retinanet":
            per_cell = len(OCTAVES) * len(RATIOS)
        case "fcos":
            caffe = backbone in ("resnet50", "resnet101")
            model = replace(model, caffe=True, normalisation=CAFFE) if caffe else model
    return model.resolved(), (cls or 0) // per_cell


def _rows(state_dict: Mapping[str, Tensor], name: str) -> int | None:
    """How many outputs a convolution has; None where it is absent."""
    weight = state_dict.get(name)
    if weight is not None and weight.dim() != 4:
        raise InputError(f"{name} is {tuple(weight.shape)}; expected a convolution, with 4 axes")
    return None if weight is None else len(weight)


def _sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Channels, levels and convolutions of a tower; GroupNorm's groups leave no trace."""
    levels = sum(
        re.fullmatch(r"neck\.fpn_convs\.\d+\.conv\.weight", x) is not None for x in state_dict
    )
    convs = sum(
        re.fullmatch(r"bbox_head\.cls_convs\.\d+\.conv\.weight", x) is not None for x in state_dict
    )
    first = _rows(state_dict, "neck.lateral_convs.0.conv.weight")
    if first is None or levels < 3 or convs < 1:
        return {}  # load_official names what is missing
    return {
        "channels": first,
        "head_groups": math.gcd(first, 32),
        "head_convs": convs,
        "strides": tuple(8 * 2**level for level in range(levels)),
    }


def _backbone_of(state_dict: Mapping[str, Tensor]) -> BackboneName:
    if "backbone.layer1.0.depthwise_conv.conv.weight" in state_dict:
        return "mobilenet_v2"
    block = re.compile(r"backbone\.layer3\.\d+\.conv1\.weight")
    blocks = sum(block.fullmatch(name) is not None for name in state_dict)
    bottleneck = "backbone.layer1.0.conv3.weight" in state_dict
    depths = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}
    if (blocks, bottleneck) not in depths:
        raise InputError(f"unknown backbone: {blocks} blocks in layer3, expected 2, 6 or 23")
    return f"resnet{depths[blocks, bottleneck]}"

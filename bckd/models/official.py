"""State dicts of the official code and of mmdetection 2.x, loaded by a key map.

The official zoo's names on the right; ours on the left:

    backbone.*                       backbone.*  (ResNet: torchvision's names, the same)
    neck.lateral.i, neck.output.i    neck.lateral_convs.i.conv, neck.fpn_convs.i.conv
    head.cls_tower.i.0 / .1          bbox_head.cls_convs.i.conv / .gn
    head.box_tower.i.0 / .1          bbox_head.reg_convs.i.conv / .gn
    head.cls, head.box               bbox_head.gfl_cls, bbox_head.gfl_reg
    head.scales.i.scale              bbox_head.scales.i.scale
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bckd.errors import InputError
from bckd.models.detector import Detector, DetectorConfig

_RULES = (
    (r"^neck\.lateral\.(\d+)\.", r"neck.lateral_convs.\1.conv."),
    (r"^neck\.output\.(\d+)\.", r"neck.fpn_convs.\1.conv."),
    (r"^head\.cls_tower\.(\d+)\.0\.", r"bbox_head.cls_convs.\1.conv."),
    (r"^head\.cls_tower\.(\d+)\.1\.", r"bbox_head.cls_convs.\1.gn."),
    (r"^head\.box_tower\.(\d+)\.0\.", r"bbox_head.reg_convs.\1.conv."),
    (r"^head\.box_tower\.(\d+)\.1\.", r"bbox_head.reg_convs.\1.gn."),
    (r"^head\.cls\.", "bbox_head.gfl_cls."),
    (r"^head\.box\.", "bbox_head.gfl_reg."),
    (r"^head\.scales\.", "bbox_head.scales."),
)
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


def official_name(name: str) -> str:
    """The official name of an entry of our state dict."""
    if name.startswith("backbone.features."):
        return _mobilenet_name(name)
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
        InputError: an entry is missing, unexpected or of another shape; every one
            is named, and the detector is left as it was.
    """
    own = detector.state_dict()
    names = {official_name(name): name for name in own}
    unused = [name for name in state_dict if any(rule.search(name) for rule in _UNUSED)]
    missing = [name for name in names if name not in state_dict]
    unexpected = [name for name in state_dict if name not in names and name not in unused]
    shapes = [
        f"{name} is {tuple(state_dict[name].shape)}, expected {tuple(own[ours].shape)}"
        for name, ours in names.items()
        if name in state_dict and state_dict[name].shape != own[ours].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(problems.values()):
        listed = "; ".join(f"{what}: {', '.join(of)}" for what, of in problems.items() if of)
        raise InputError(f"official weights do not fit {detector.config.backbone}: {listed}")
    detector.load_state_dict({ours: state_dict[name] for name, ours in names.items()})
    return LoadReport(tuple(names), tuple(unused))


def read_official(path: Path) -> dict[str, Tensor]:
    """The state dict of an official .pth file, read without unpickling objects.

    Raises:
        InputError: the file is absent or holds no state dict.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a file of tensors that loads safely: {reason}") from error
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise InputError(f"{path} holds no state dict: expected names and tensors")
    return state_dict


def config_of_official(state_dict: Mapping[str, Tensor]) -> tuple[DetectorConfig, int]:
    """The configuration and number of classes of an official GFL checkpoint, from its entries.

    Raises:
        InputError: it is not a GFL detector on ResNet or MobileNetV2.
    """
    cls = state_dict.get("bbox_head.gfl_cls.weight")
    box = state_dict.get("bbox_head.gfl_reg.weight")
    if cls is None or box is None:
        raise InputError("not a GFL checkpoint: bbox_head.gfl_cls.weight or gfl_reg is missing")
    mobile = "backbone.layer1.0.depthwise_conv.conv.weight" in state_dict
    block = re.compile(r"backbone\.layer3\.\d+\.conv1\.weight")
    blocks = sum(block.fullmatch(name) is not None for name in state_dict)
    bottleneck = "backbone.layer1.0.conv3.weight" in state_dict
    depths = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}
    if not mobile and (blocks, bottleneck) not in depths:
        raise InputError(f"unknown backbone: {blocks} blocks in layer3, expected 2, 6 or 23")
    backbone = "mobilenet_v2" if mobile else f"resnet{depths[blocks, bottleneck]}"
    config = DetectorConfig(
        backbone=backbone, pretrained=False, leaky=mobile, reg_max=len(box) // 4 - 1
    )
    return config, len(cls)

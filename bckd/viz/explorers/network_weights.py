"""A detector as a browser runs it: a list of steps, and its weights in 16 bits each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bckd.models.backbones.small_resnet import SmallResNet
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.models.folding import folded
from bckd.models.heads.gfl import GFLHead
from bckd.system.errors import InputError

Step = dict[str, Any]
LARGEST = 32767  # of the integers that weights are sent as


@torch.no_grad()
def in_sixteen_bits(detector: DenseDetector) -> Detector:
    """A copy whose weights are those that 16 bits keep, held and computed in float32.

    BatchNorms are folded into the convolutions before them first. Then the weights of a
    convolution's output, its biases, and a norm's factors or biases are integers in -32767 to
    32767, times one factor. Scores change by a fifth to a twelfth of what half precision changes.

    Raises:
        InputError: it is not a GFL detector on the small ResNet, or a weight is not finite.
    """
    result = folded(_known(detector), torch.zeros(1, 3, 64, 64))
    for name, weights in result.named_parameters():
        if not weights.isfinite().all():
            raise InputError(f"{name} has a weight that is not finite; a browser gets none such")
        if weights.ndim:  # a level's scale of its box sides goes as it is
            integers, factors = _integers(_rows(weights))
            weights.copy_((integers * factors[:, None]).reshape(weights.shape))
    return result


def _rows(weights: Tensor) -> Tensor:
    """The numbers that share a factor: those of one output, or a whole list of one a channel."""
    return weights.flatten(1) if weights.ndim > 1 else weights[None]


def _integers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in -32767 to 32767 and each row's factor, which times them is near to the row."""
    largest = rows.abs().amax(dim=1)
    factors = torch.where(largest > 0, largest / LARGEST, 1.0)
    return (rows / factors[:, None]).round(), factors


def packed_network(detector: DenseDetector) -> dict[str, Any]:
    """A detector as `network.js` reads it: plain JSON but for one array.

    Returns:
        "steps": what is computed, in order. Each has a "kind", the maps it reads ("from") and
        the one it makes ("to"), by name, "image" being the first. Weights of a step start at "at".
        "levels": of each level its "stride", the maps of "classes" and "boxes" and the "scale"
        of the latter. "anchor_scale": side of an anchor, in strides. "weights": (W,) int16, row
        after row; "factors": (R,) float32, by which a row's are multiplied; "lengths": (R,)
        uint16 of the rows. "mean" and "deviation": of the image's channels, in 0 to 1.

    Raises:
        InputError: as `in_sixteen_bits`.
    """
    packer = _Packer()
    rounded = in_sixteen_bits(detector)
    maps = packer.backbone(rounded.backbone)
    packer.pyramid(rounded.neck, maps)
    head: Any = rounded.head  # a GFL head: see `_known`
    levels = []
    for stride, scale in zip(rounded.strides, head.scales, strict=True):
        names = packer.head(head, f"pyramid {stride}", stride)
        levels.append({"stride": stride, **names, "scale": scale.scale.item()})
    return {
        "steps": packer.steps,
        "levels": levels,
        "anchor_scale": head.anchor_scale,
        "weights": np.concatenate(packer.weights),
        "factors": np.concatenate(packer.factors),
        "lengths": np.array(packer.lengths, dtype=np.uint16),
        "mean": list(rounded.normalisation.mean),
        "deviation": list(rounded.normalisation.deviation),
    }


def _known(detector: DenseDetector) -> Detector:
    """The detector, if it is one that a browser runs."""
    if isinstance(detector, Detector):
        parts = (detector.head, detector.backbone)
        if isinstance(parts[0], GFLHead) and isinstance(parts[1], SmallResNet):
            return detector
        found = "a {} with a {}".format(*(type(part).__name__ for part in parts))
    else:
        found = f"a {type(detector).__name__}"
    raise InputError(
        "a browser runs GFL detectors on the small ResNet; expected a Detector of a GFLHead with "
        f"a SmallResNet, found {found}"
    )


class _Packer:
    """Collects steps and weights; a module met again (a head's on each level) is stored once."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.weights: list[np.ndarray] = []
        self.factors: list[np.ndarray] = []
        self.lengths: list[int] = []
        self._places: dict[nn.Module, int] = {}

    def backbone(self, backbone: Any) -> dict[int, str]:
        """The backbone's steps; names of its maps by stride."""
        (stem, _) = backbone.stem
        self._convolution(stem, "image", "stem", relu=True)
        source, maps = "stem", {}
        for number, block in enumerate(backbone.stages):
            name = f"stage {number}"
            self._convolution(block.conv1[0], source, f"{name}, first", relu=True)
            self._convolution(block.conv2[0], f"{name}, first", f"{name}, second")
            self._step("average", source, f"{name}, averaged")
            (_, (projection, _)) = block.shortcut
            self._convolution(projection, f"{name}, averaged", f"{name}, shortcut")
            self._step("sum", [f"{name}, second", f"{name}, shortcut"], name, relu=True)
            source, maps[4 * 2**number] = name, name
        return maps

    def pyramid(self, neck: Any, maps: dict[int, str]) -> None:
        """The steps to the maps "pyramid 8", "pyramid 16" and "pyramid 32"."""
        strides = (8, 16, 32)
        for stride, lateral in zip(strides, neck.lateral, strict=True):
            self._convolution(lateral, maps[stride], f"lateral {stride}")
        merged = "lateral 32"
        names = {32: merged}
        for stride in (16, 8):
            names[stride] = f"merged {stride}"
            self._step("upsampled sum", [f"lateral {stride}", merged], names[stride])
            merged = names[stride]
        for stride, conv in zip(strides, neck.output, strict=True):
            self._convolution(conv, names[stride], f"pyramid {stride}")

    def head(self, head: Any, source: str, stride: int) -> dict[str, str]:
        """The steps of both towers on one level's map; the names of their last maps."""
        for tower, last, name in (
            (head.cls_tower, head.cls, "classes"),
            (head.box_tower, head.box, "boxes"),
        ):
            at = source
            for number, (conv, norm, _) in enumerate(tower):
                convolved = f"{name} {stride}, {number}"
                self._convolution(conv, at, convolved)
                at = f"{convolved}, normalised"
                self._normalisation(norm, convolved, at)
            self._convolution(last, at, f"{name} {stride}")
        return {"classes": f"classes {stride}", "boxes": f"boxes {stride}"}

    def _convolution(
        self, conv: nn.Conv2d, source: str, target: str, *, relu: bool = False
    ) -> None:
        """Its weights are sent as (outputs, rows, columns, inputs), then one bias an output."""
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
        at = self._place(conv, conv.weight.permute(0, 2, 3, 1), bias)
        self._step(
            "convolution",
            source,
            target,
            relu=relu,
            at=at,
            inputs=conv.in_channels,
            outputs=conv.out_channels,
            size=conv.kernel_size[0],
            stride=conv.stride[0],
        )

    def _normalisation(self, norm: nn.GroupNorm, source: str, target: str) -> None:
        """A GroupNorm and the ReLU behind it: a factor a channel is sent, then a bias a channel."""
        at = self._place(norm, norm.weight, norm.bias)
        self._step("group norm", source, target, at=at, groups=norm.num_groups, epsilon=norm.eps)

    def _step(self, kind: str, source: str | list[str], target: str, **settings: Any) -> None:
        sources = [source] if isinstance(source, str) else source
        self.steps.append({"kind": kind, "from": sources, "to": target, **settings})

    def _place(self, module: nn.Module, *tensors: Tensor) -> int:
        if module not in self._places:
            self._places[module] = sum(len(part) for part in self.weights)
            for tensor in tensors:
                rows = _rows(tensor.detach())
                integers, factors = _integers(rows)
                self.weights.append(integers.flatten().numpy().astype(np.int16))
                self.factors.append(factors.numpy())
                self.lengths += [rows.shape[1]] * len(rows)
        return self._places[module]

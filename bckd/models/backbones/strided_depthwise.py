"""Strided depthwise convolutions, which learn in float32 where a CPU computes in bfloat16."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn


class StridedDepthwise(nn.Conv2d):
    """A convolution that leaves a CPU's autocast while it learns, else as any other.

    Its backward is slow in bfloat16: with PyTorch 2.15 on a CPU with AVX-512 that of 576 channels
    of 16 x 14 x 14 took 65 ms, in float32 2.5 ms; that of 96 channels of 16 x 112 x 112, 206 ms
    and 55 ms.
    """

    def forward(self, input: Tensor) -> Tensor:
        """A map (N, C, H, W) smaller by the stride; float32 where it learns on a CPU."""
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not (learns and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def replace_strided_depthwise(module: nn.Module) -> None:
    """Put a `StridedDepthwise` in place of each such convolution; it keeps the weight, no copy."""
    for name, child in module.named_children():
        if _is_strided_depthwise(child):
            setattr(module, name, _taking_over(child))
        else:
            replace_strided_depthwise(child)


def _is_strided_depthwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d):
        return False
    return module.groups == module.in_channels and max(module.stride) > 1


def _taking_over(module: nn.Conv2d) -> StridedDepthwise:
    # Without drawing weights: a seed's later draws must not depend on this.
    own = nn.utils.skip_init(
        StridedDepthwise,
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        bias=module.bias is not None,
    )
    own.weight, own.bias = module.weight, module.bias
    return own

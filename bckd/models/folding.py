"""Batch norms with fixed statistics, folded into the convolutions before them."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from bckd.models.heads.layers import ExactConv2d
from bckd.structures import DenseOutput

Network = TypeVar("Network", bound=nn.Module)
TOLERANCE = 1e-4  # of an output's largest value: how far a folded network may be from what it was


@torch.no_grad()
def folded(network: Network, images: Tensor) -> Network:
    """A copy in which each batch norm behind a convolution has become part of it.

    Exact up to rounding, for a network in eval mode that will not learn. Which convolution a
    norm is behind is seen in a forward pass; where that does not tell all (an output that
    something else reads too), so that outputs differ, it is a copy without changes.

    Args:
        images: (N, 3, H, W), some that the network takes.
    """
    result = copy.deepcopy(network)
    before = result(images)
    names = {module: name for name, module in result.named_modules()}
    for norm, conv in _pairs(result, images).items():
        known: Any = norm  # PyTorch's or torchvision's, which have the same fields
        fused = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            known.running_mean,
            known.running_var,
            known.eps,
            known.weight,
            known.bias,
        )
        conv.weight, conv.bias = (nn.Parameter(x, requires_grad=False) for x in fused)
        parent, _, name = names[norm].rpartition(".")
        setattr(result.get_submodule(parent), name, nn.Identity())
    return result if _same(before, result(images)) else copy.deepcopy(network)


@torch.no_grad()
def keeping_type(network: Network, dtype: torch.dtype | None) -> Network:
    """The network itself, its convolutions' weights in the type that they are computed in.

    Autocast would convert them in every forward pass. None leaves them as they are.
    """
    for module in network.modules() if dtype is not None else ():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ExactConv2d):
            module.to(dtype)
    return network


def _pairs(network: nn.Module, images: Tensor) -> dict[nn.Module, nn.Conv2d]:
    """The convolution before each norm, of those that are computed once in a forward pass."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    inputs: list[tuple[nn.Module, Tensor]] = []
    watched = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            watched.append(
                module.register_forward_hook(lambda m, _, output: outputs.append((m, output)))
            )
        elif _has_statistics(module):
            watched.append(
                module.register_forward_pre_hook(lambda m, seen: inputs.append((m, seen[0])))
            )
    network(images)
    for handle in watched:
        handle.remove()
    convs, norms = [conv for conv, _ in outputs], [norm for norm, _ in inputs]
    return {
        norm: conv
        for norm, seen in inputs
        for conv, output in outputs
        if output is seen and convs.count(conv) == norms.count(norm) == 1
    }


def _has_statistics(module: nn.Module) -> bool:
    """Whether it is a batch norm with fixed statistics, PyTorch's or torchvision's frozen one."""
    return getattr(module, "running_var", None) is not None and not module.training


def _same(one: DenseOutput, other: DenseOutput) -> bool:
    pairs = zip(one.per_location().values(), other.per_location().values(), strict=True)
    return all((x - y).abs().max() <= TOLERANCE * x.abs().max().clamp(min=1) for x, y in pairs)

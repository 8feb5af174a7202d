"""In which precision the networks compute; weights, boxes and losses are float32 throughout."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bf16", "fp16"]

_TYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Parameters from which a CPU that has bfloat16 gains by it. On one with AVX-512 the step of a
# ResNet-50 took half the time, that of a network of .9 million parameters as long as before.
_LARGE = 10_000_000
_CPU_FEATURES = ("avx512_bf16", "amx_bf16", "avx10_1")  # arithmetic in bfloat16, not its emulation


def autocast_type(
    precision: Precision, device: torch.device, network: nn.Module
) -> torch.dtype | None:
    """What autocast computes a network's convolutions in on this device.

    Returns:
        None: float32, without autocast.
    """
    return _TYPES[precision] if precision != "auto" else _best_type(device, network)


def computing_in(dtype: torch.dtype | None, device: torch.device) -> torch.autocast:
    """The context in which networks compute in that type; None: float32."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=bool(dtype))


def _best_type(device: torch.device, network: nn.Module) -> torch.dtype | None:
    if device.type == "cpu":
        large = sum(parameter.numel() for parameter in network.parameters()) >= _LARGE
        return torch.bfloat16 if large and _cpu_computes_bf16() else None
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        # Cards before Ampere emulate bfloat16, slower than float32.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        # Tensor cores, without which half precision gains nothing, came with Volta.
        return torch.float16 if torch.cuda.get_device_capability() >= (7, 0) else None


def _cpu_computes_bf16() -> bool:
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in _CPU_FEATURES)

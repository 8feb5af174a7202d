"""In which precision the networks compute; weights, boxes and losses are float32 throughout."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16", "fp16"]

_TYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What autocast computes convolutions in on this device; None: float32, without autocast."""
    return _TYPES[precision] if precision != "auto" else _best_type(device)


def computing_in(dtype: torch.dtype | None, device: torch.device) -> torch.autocast:
    """The context in which networks compute in that type; None: float32."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=bool(dtype))


def _best_type(device: torch.device) -> torch.dtype | None:
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        # Cards before Ampere emulate bfloat16, slower than float32.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        # Tensor cores, without which half precision gains nothing, came with Volta.
        return torch.float16 if torch.cuda.get_device_capability() >= (7, 0) else None

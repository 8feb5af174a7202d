"""How much memory is in use."""

from __future__ import annotations

import sys

import torch


def forget_memory(device: torch.device) -> None:
    """Let `most_memory` of a GPU tell of what comes now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def most_memory(device: torch.device) -> int | None:
    """Most bytes in use: a GPU's tensors since `forget_memory`, or this process's memory ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # late: Windows has none

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most

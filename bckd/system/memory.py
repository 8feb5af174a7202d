"""How much memory is in use, and that what is freed is used again."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")  # where Linux tells of a process


def forget_memory(device: torch.device) -> None:
    """Let `most_memory` of a GPU tell of what comes now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def most_memory(device: torch.device) -> int | None:
    """Most bytes in use: a GPU's tensors since `forget_memory`, or this process's memory ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():
        # Not getrusage: Linux counts there what the process had that this one was started by.
        # Bytes: the process's name is in there too, cut wherever it gets too long.
        found = re.search(rb"^VmHWM:\s+(\d+) kB$", _STATUS.read_bytes(), re.MULTILINE)
        if found is not None:
            return 1024 * int(found[1])
    if sys.platform == "win32":
        return None
    import resource  # late: Windows has none

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


# Options of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1  # bytes that are free at the end before they go back, the most that it takes


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, to use it again, as long as it lives.

    By itself glibc gives each block of more than 32 MiB back to the system and asks for the next
    one anew, page by page: what a step of training with large images does over and over.

    Returns:
        Whether that is so now; not where the C library is another.
    """
    options = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if options is None:
        return False
    return bool(options(_TRIM_THRESHOLD, _NEVER)) and bool(options(_MMAP_MAX, 0))

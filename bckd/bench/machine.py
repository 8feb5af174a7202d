"""The machine: what it is called, and the most that its arithmetic and memory give."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import torch
import torchvision

from bckd import __version__
from bckd.bench.results import Machine
from bckd.bench.timing import times

_SIDES = {"cuda": 8192}  # of the matrices whose product is the peak
_SIDE = 2048  # on other devices


def this_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """The machine as it is now.

    Args:
        device: what computes.
        dtype: that networks compute in.
    """
    return Machine(
        device=device_name(device),
        threads=torch.get_num_threads(),
        cores=_cores(),
        system=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        cuda=torch.version.cuda if device.type == "cuda" else None,
        bckd=__version__,
        peak=peak(device, dtype),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best that can be hoped for."""
    side = _SIDES.get(device.type, _SIDE)
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    with _types_of_convolutions():
        return 2 * side**3 / min(times(lambda: a @ b, device, repeat=10, warm_up=3))


@contextmanager
def _types_of_convolutions() -> Iterator[None]:
    """Let a GPU's products of float32 be rounded as its convolutions are (TF32)."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """What the processor or the card is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = Path("/proc/cpuinfo")
    for line in told.read_text().splitlines() if told.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

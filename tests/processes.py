"""Processes that work together, started quicker than each by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.multiprocessing as multiprocessing

HEAVY = ["torch", "torch._dynamo", "torchvision", "bckd.training.trainer"]


def start_processes(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """Call `work(rank, *arguments)` in as many processes; what fails in one is raised here.

    They are forks of a server, a process of no threads of its own, which imports what takes
    seconds once for all tests beside it; on Windows, which has none, each begins anew.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if method == "forkserver":
        multiprocessing.set_forkserver_preload(HEAVY)
    multiprocessing.start_processes(work, arguments, count, start_method=method)

"""Processes that work together, started quicker than each by itself."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import torch.multiprocessing as multiprocessing

HEAVY = ["torch", "torch._dynamo", "torchvision", "bckd.training.trainer"]
_METHODS = multiprocessing.get_all_start_methods()


def start_processes(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """Call `work(rank, *arguments)` in as many processes; what fails in one is raised here."""
    method = quick_context().get_start_method()
    multiprocessing.start_processes(work, arguments, count, start_method=method)


def quick_context(method: str = "spawn") -> BaseContext:
    """For processes that would else begin anew: forks of a server that has no threads of its own.

    It imports what takes seconds once for all tests beside it. Windows has none.

    Args:
        method: that the package asks for, of no use here.
    """
    if "forkserver" not in _METHODS:
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(HEAVY)
    return multiprocessing.get_context("forkserver")

"""One run on many processes: how they meet, share the images and agree on numbers.

`torchrun --nproc-per-node N -m bckd train ...` starts N processes that run the same
program. Each takes its share of every batch; gradients are averaged over them by
DistributedDataParallel. In a single process a value, a list or a network stays what it is.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from bckd.system.errors import InputError, reason
from bckd.system.late import Coming
from bckd.system.launcher import is_first, launched

T = TypeVar("T")
# The longest wait for another process: the first scores all detections of COCO alone.
PATIENCE = timedelta(hours=1)


@dataclass
class _Company:
    """Whether what is asked concerns the other processes of a run."""

    apart: bool = False


_COMPANY = _Company()


def own_device(name: str) -> str:
    """The name of this process's own GPU where torchrun started it, else the name itself.

    Args:
        name: as in a recipe: "auto", "cpu", "cuda", ...

    Raises:
        InputError: it is that of one GPU, or there are fewer GPUs than processes.
    """
    if not launched() or not name.startswith(("auto", "cuda")) or not torch.cuda.is_available():
        return name
    if ":" in name:
        if os.environ["LOCAL_WORLD_SIZE"] == "1":
            return name
        raise InputError(
            f"device is {name}, one GPU for all processes of torchrun; expected cuda or auto"
        )
    own, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if own >= count:
        raise InputError(
            f"torchrun started {os.environ['LOCAL_WORLD_SIZE']} processes here, one for each "
            f"GPU, but there is no GPU {own}; expected --nproc-per-node {count}"
        )
    return f"cuda:{own}"


@contextmanager
def processes_joined(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, for the length of the block.

    Args:
        device: this process's own, by which the way to talk is chosen (NCCL, else Gloo).

    Raises:
        InputError: another process is gone while this one talks to it.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else objects would all travel by the first GPU
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise InputError(
            f"another process of the run is gone, or does not answer; --resume goes on from the "
            f"last state ({reason(error)})"
        ) from error
    # Not after an error: the others may wait for this process, until torchrun stops them.
    dist.destroy_process_group()


@contextmanager
def apart() -> Iterator[None]:
    """In the block this process is alone: it counts as the only one, and nothing travels.

    For what each process, or one of them, finds out by itself: numbers that only the others could
    complete would have to lie where processes talk, with NCCL on a GPU.
    """
    before, _COMPANY.apart = _COMPANY.apart, True
    try:
        yield
    finally:
        _COMPANY.apart = before


def process_count() -> int:
    """How many processes share the run."""
    return dist.get_world_size() if _joined() else 1


def process_index() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if _joined() else 0


def shared(network: nn.Module) -> nn.Module:
    """The network as all processes train it: backward averages the gradients over them."""
    if process_count() == 1:
        return network
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # Of PyTorch 2.15: another name will come for it, which does not do all of it yet.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # Buffers are each process's own until `share_statistics`.
        return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Give every process the mean of all processes' running statistics of a BatchNorm.

    Those that learn alone: what is fixed stays as it is, to the last bit.
    """
    if not _joined():
        return
    for norm in network.modules():
        if isinstance(norm, _BatchNorm) and norm.training:
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(mean_over_processes(statistic))


def first_process_first(work: Callable[[], T]) -> T:
    """`work()` in every process, the first one ahead: what it downloads, the others find."""
    if is_first():
        result = work()
        _wait()
        return result
    _wait()
    return work()


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes (mmdetection's `reduce_mean`)."""
    if not _joined():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def rows_of_all_processes(values: Tensor) -> Tensor:
    """The rows (N, ...) of all processes one after the other, which have as many each."""
    parts = [torch.empty_like(values) for _ in range(process_count())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def joined_lists(part: list[T]) -> list[T]:
    """The lists of all processes one after the other, in every process."""
    if not _joined():
        return part
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return list(chain.from_iterable(parts))


def from_first(work: Callable[[], T]) -> T:
    """`work()`, done by the first process alone, in every process.

    Raises:
        InputError: `work` does, in every process.
    """
    if not _joined():
        return work()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome = [work(), None]
        except InputError as error:
            outcome = [None, error]
    dist.broadcast_object_list(outcome, src=0)
    result, refusal = outcome
    if refusal is not None:
        raise refusal
    return result


class Anywhere:
    """Whether something holds in any process; all of them learn it after the same step."""

    def __init__(self) -> None:
        self._coming: Coming | None = None

    def after_a_step(self, holds: bool, device: torch.device) -> bool:
        """Whether it holds here, where there is one process; else, held anywhere a step ago.

        Args:
            device: this process's own.
        """
        if not _joined():
            return holds
        value = torch.full((), float(holds), device=device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        before, self._coming = self._coming, Coming.of(value)
        return before is not None and bool(before.read())


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized() and not _COMPANY.apart


def _wait() -> None:
    if _joined():
        dist.barrier()

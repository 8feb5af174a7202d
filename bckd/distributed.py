"""Averages over the processes of a distributed run; the identity in a single one."""

import torch.distributed as dist
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a scalar tensor over all processes (mmdetection's `reduce_mean`)."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()

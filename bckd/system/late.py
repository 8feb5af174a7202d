"""Numbers that a device computes, read by the host when they are there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coming:
    """Numbers on their way to the host, which goes on meanwhile.

    To read a GPU's number at once, the host would wait until all that it has asked for is done,
    and the GPU then for the host. Read a step later it is there, with that step's work queued
    behind it.
    """

    values: Tensor
    sent: torch.cuda.Event | None

    @classmethod
    def of(cls, values: Tensor) -> Coming:
        """Numbers as they are now, of any shape."""
        if values.device.type != "cuda":
            return cls(values.detach().clone(), None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values.detach(), non_blocking=True)
        sent = torch.cuda.Event()
        sent.record(torch.cuda.current_stream(values.device))
        return cls(host, sent)

    def read(self) -> Tensor:
        """The numbers, on the host."""
        if self.sent is not None:
            self.sent.synchronize()
        return self.values

"""How a process of a DataLoader starts."""

from __future__ import annotations

import gc

from bckd.system.interruption import leave_signals


def start_process(worker: int) -> None:
    """For a process of a DataLoader: it leaves alone what it shares with the one it came from.

    That are the signals that the whole group is told, and the memory: a collection of garbage
    would write to every object that was there before, and so copy its page.
    """
    leave_signals(worker)
    gc.freeze()

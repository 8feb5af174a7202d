"""Being told to end: by Ctrl-C (SIGINT), or by SIGTERM as schedulers send it.

A command ends at once, and says so. A run that trains never cuts a step: it hears the signal, ends
its step, saves its state and raises. Where nothing is lost by it, as in an evaluation, it raises at
once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bckd.system.errors import InputError, Interrupted


class Ending:
    """Whether this process was told to end.

    Attributes:
        told: the signal, or None.
    """

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.told: int | None = None
        self._process, self._at_once = os.getpid(), False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal."""
        if os.getpid() != self._process:
            return  # a process that loads images ends with its parent
        again, self.told = self.told is not None, number
        if self._at_once and not _swallows(frame):
            raise self.interrupted()
        if again and number == signal.SIGINT:  # whoever asks twice does not wait for a step
            raise KeyboardInterrupt

    def interrupted(self) -> Interrupted:
        """What is raised in the end; SIGTERM where another process was told."""
        return Interrupted(self.told or signal.SIGTERM, self.out)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise as soon as told, for the length of the block; also what was told before it."""
        self._at_once = True
        try:
            self.raise_if_told()
            yield
            self.raise_if_told()
        finally:
            self._at_once = False

    def raise_if_told(self) -> None:
        """Raise what was told and could not be raised."""
        if self.told is not None:
            raise self.interrupted()


def _swallows(frame: FrameType | None) -> bool:
    """Whether Python would print what is raised here, and go on.

    So it does in a destructor, and in what runs around a fork, which multiprocessing's `_launch`
    does.
    """
    while frame is not None and frame.f_code.co_name not in ("__del__", "_launch"):
        frame = frame.f_back
    return frame is not None


@contextmanager
def ending(out: Path | None = None) -> Iterator[Ending]:
    """Hear signals for the length of the block; in a thread other than the main one, none.

    One that is ignored stays so: a shell has Ctrl-C ignored by what it runs in the background. What
    was told and led to nothing is told again behind the block, to whoever heard before.
    """
    told = Ending(out)
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: x for number, x in before.items() if x is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, told.hear)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if told.told is not None:
        signal.raise_signal(told.told)


def report_in_iterator() -> None:
    """Have a lost process of a DataLoader that exists by now reported by its iterator alone.

    torch's handler of SIGCHLD raises in the middle of whatever runs, such as a step.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def leave_signals(worker: int) -> None:
    """For a process of a DataLoader: what the whole group of processes is told is not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()


@contextmanager
def loading(told: Ending) -> Iterator[None]:
    """Say in a sentence that a process of a DataLoader is gone.

    Raises:
        InputError: it is.
        Interrupted: it is, as this one shall be.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        told.raise_if_told()
        raise InputError(
            "a process that loads images was ended from outside, perhaps for want of memory; "
            "fewer of them (--data.workers) need less, and --resume goes on with the run"
        ) from error

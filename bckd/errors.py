"""What ends a command with a sentence, without a traceback."""

from __future__ import annotations

import signal
from pathlib import Path


class InputError(ValueError):
    """Bad input: the message names the file, field or value and what was expected."""

    def __init__(self, sentence: str) -> None:
        # A data loader's worker wraps the error in its traceback; the sentence comes last.
        if "Original Traceback" in sentence:
            sentence = sentence.strip().rpartition("InputError: ")[2]
        super().__init__(sentence)


class NonFiniteLossError(RuntimeError):
    """A loss term or a weight is nan or infinite; the message names it, and the images."""


class Interrupted(KeyboardInterrupt):
    """A run was told to end, and its folder holds all of it.

    Args:
        number: of the signal.
        out: the folder.
    """

    def __init__(self, number: int, out: Path) -> None:
        super().__init__(number, out)
        self.number, self.out = number, out

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return (
            f"stopped by {name}; {self.out} holds what was done, and --resume goes on from there "
            f"(a demo or a study does so when it is started again)"
        )


def reason(error: BaseException) -> str:
    """Why something failed, on one line: the system's words where it is the system's error."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__

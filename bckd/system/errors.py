"""What ends a command with a sentence, without a traceback."""

from __future__ import annotations

import re
import signal
from pathlib import Path

# How PyTorch says it of the CPU, of CUDA, of its libraries, and of MPS; and how numpy and it
# say how much it was.
_NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|ALLOC_FAILED|start new thread"
)
_ASKED = re.compile(r"allocate ([\d.]+ ?(?:bytes|[KMGTP]i?B))")


# How PyTorch, and Triton for a GPU, say that no compiler is there to make code of a graph.
_NO_COMPILER = re.compile(r"InvalidCxxCompiler|Failed to find C compiler")


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
    """A command or a run was told to end.

    Args:
        number: of the signal.
        out: the folder that holds all of what a run did.
    """

    def __init__(self, number: int, out: Path | None) -> None:
        super().__init__(number, out)
        self.number, self.out = number, out

    def __str__(self) -> str:
        stopped = f"stopped by {signal.Signals(self.number).name}"
        if self.out is None:
            return stopped
        return (
            f"{stopped}; {self.out} holds what was done, and --resume goes on from there "
            f"(a demo or a study does so when it is started again)"
        )


def reason(error: BaseException) -> str:
    """Why something failed, on one line: the system's words where it is the system's error."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def memory_wanted(error: BaseException) -> str | None:
    """Of an error that says that memory ran out, how much was asked for in vain; else None.

    In brackets, where it is known. PyTorch has a class of its own for this on accelerators alone.
    """
    words = str(error)
    if not isinstance(error, MemoryError) and not _NO_MEMORY.search(words):
        return None
    asked = _ASKED.search(words)
    return f" ({asked[1]} were asked for)" if asked else ""


def lacks_compiler(error: BaseException) -> bool:
    """Whether an error says that torch.compile found no compiler."""
    return _NO_COMPILER.search(str(error)) is not None

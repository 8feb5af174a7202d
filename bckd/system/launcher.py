"""What torchrun makes of this process: which of several it is, and whom it tells why it ended.

By the environment alone, so that help and refusals come without loading PyTorch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

WAIT_FOR_FIRST = 10.0  # seconds that another process gives the first one to end for the same reason


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the one that writes files and messages, joined or not."""
    return _number() == 0


def process_name() -> str:
    """ " (process 3)" after a program's name in a message; nothing of the first process."""
    return "" if is_first() else f" (process {_number()})"


def end_under_torchrun(sentence: str, code: int) -> None:
    """End this process with its last words left to torchrun, which says them after its own.

    Those of the first process alone where all have the same to say: the others wait to be ended.
    Does nothing where torchrun did not start this process, or its file can't be written to.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE") if launched() else None
    if file is None:
        return
    if not is_first():
        time.sleep(WAIT_FOR_FIRST)
    known = {"py_callstack": sentence, "timestamp": str(int(time.time()))}
    try:
        Path(file).write_text(json.dumps({"message": {"message": sentence, "extraInfo": known}}))
    except OSError:
        return  # the disk is full, perhaps the very fault: whoever calls says it
    sys.stdout.flush()
    os._exit(code)  # a common end would wait for processes that wait for this one


def _number() -> int:
    """This process's number; processes that met without torchrun have one by PyTorch alone."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ["RANK"]) if launched() else 0

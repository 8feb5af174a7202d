"""The command `bckd`: which of its commands runs, and how it ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import NoReturn

from bckd import __version__
from bckd.system.errors import (
    InputError,
    Interrupted,
    NonFiniteLossError,
    lacks_compiler,
    memory_wanted,
    reason,
)
from bckd.system.exit_codes import DONE, REFUSED, SIGNALLED
from bckd.system.interruption import ending
from bckd.system.launcher import end_under_torchrun, is_first, launched, process_name
from bckd.system.nearest import expected

COMMANDS = {
    "scenes": "bckd.commands.scenes",
    "data": "bckd.commands.data",
    "train": "bckd.commands.train",
    "eval": "bckd.commands.evaluate",
    "report": "bckd.commands.report",
    "predict": "bckd.commands.predict",
    "export": "bckd.commands.export",
    "detectors": "bckd.commands.detectors",
    "protocols": "bckd.commands.protocols",
    "demo": "bckd.commands.demo",
    "study": "bckd.commands.study",
    "bench": "bckd.commands.bench",
}

OVERVIEW = """\
bckd: knowledge distillation for dense object detectors

  bckd scenes        write the embedded benchmark, a small COCO-format data set
  bckd data coco     fetch COCO 2017, or look whether a copy of it is whole
  bckd data check    all that is wrong or odd in a data set of your own
  bckd data convert  files of YOLO or Pascal VOC as a data set in COCO's format
  bckd data label    a teacher's boxes as labels of images that have none
  bckd train PRESET  train a detector, with or without a teacher
  bckd eval RUN      average precision of a run's student, or of any weights
  bckd report RUN [RUN ...]
                     runs or weights side by side on a page: AP with intervals,
                     errors, pictures
  bckd predict RUN IMAGES
                     what a detector finds in images: drawn, listed, and as JSON
  bckd export RUN    a student as ONNX, as a torch.export program, or in the
                     official layout
  bckd detectors     list the published weights that load by name; with a
                     RUN, tell what it is and how it was made
  bckd protocols     what softmax and sigmoid say of real score maps
  bckd demo          the whole story in minutes: three students, one report
  bckd study NAME    rerun or continue a published comparison, or your own
                     (FILE.py); without NAME, list them
  bckd bench         time training, loading, inference, evaluation and export

`bckd COMMAND --help` shows the options of a command, `bckd --version` tells
which version this is. Exit codes: 0 done; 1 done, but for what is named; 2
refused, in one sentence; 128 and the number of the signal that ended it.
"""


def main() -> None:
    """Entry point of the command line; see `bckd.system.exit_codes` for how it ends."""
    _open_streams()
    try:
        with _heard():
            code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except (InputError, NonFiniteLossError) as error:
        _refuse(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except OSError as error:  # no space, no right, a name that the system refuses
        _refuse(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except (MemoryError, RuntimeError) as error:
        if lacks_compiler(error):
            _refuse(
                "torch.compile finds no C++ compiler here, which it makes code with; expected one "
                "(on Debian: apt install g++; or name it in the variable CXX), or no --compile"
            )
        if (wanted := memory_wanted(error)) is None:
            raise
        _refuse(
            f"memory ran out{wanted}; fewer images at once (--batch-size), smaller ones "
            f"(--data.size.short-side, long-side) or a smaller model (--model.width) need less"
        )
    except Interrupted as error:
        error.__traceback__ = None  # with it go the processes that loaded images, in order
        if is_first():
            print(f"bckd: {error}", file=sys.stderr)
        sys.exit(SIGNALLED + error.number)
    except KeyboardInterrupt:
        print("bckd: interrupted", file=sys.stderr)
        sys.exit(SIGNALLED + signal.SIGINT)


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """End at once where a signal says so; torchrun has its own way to end its processes."""
    if launched():
        yield
        return
    with ending() as told, told.at_once():
        yield


def _open_streams() -> None:
    """Standard streams that take all that is printed, and what a terminal can't show as its code.

    A service may have closed them: then the next file to be opened would get their number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's is another, which takes everything
            stream.reconfigure(errors="backslashreplace")


def _refuse(sentence: str) -> NoReturn:
    sentence = f"bckd{process_name()}: error: {sentence}"
    end_under_torchrun(sentence, REFUSED)
    with contextlib.suppress(OSError):  # nobody hears it
        print(sentence, file=sys.stderr)
    sys.exit(REFUSED)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code, which is what the command returns, or `DONE`.

    Raises:
        InputError: unknown command or option, or what the command refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return DONE
    if arguments[0] == "--version":
        print(f"bckd {__version__}")
        return DONE
    _check_words(arguments)
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"command {name!r} is unknown; {expected(name, COMMANDS, 'bckd')}")
    command = importlib.import_module(COMMANDS[name])  # late: the others need not be loaded
    return command.run(rest) or DONE


def _check_words(arguments: Sequence[str]) -> None:
    """An empty one is mostly a variable of the shell that is not set; as a path it means `.`."""
    for number, word in enumerate(arguments, 1):
        if not word or (word.startswith("--") and word.endswith("=")):
            after = f" (after {arguments[number - 2]})" if number > 1 else ""
            raise InputError(f"argument {number}{after} is {word!r}; expected a value, not nothing")
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise InputError(f"argument {number}, {word!r}, is no text in this system's encoding")

"""The command `bckd`: which of its commands runs, and how it ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from bckd.errors import InputError, Interrupted, NonFiniteLossError, reason
from bckd.launcher import end_under_torchrun, is_first, process_name

COMMANDS = {
    "scenes": "bckd.commands.scenes",
    "train": "bckd.commands.train",
    "eval": "bckd.commands.evaluate",
    "export": "bckd.commands.export",
    "detectors": "bckd.commands.detectors",
    "protocols": "bckd.commands.protocols",
    "demo": "bckd.commands.demo",
    "study": "bckd.commands.study",
}

OVERVIEW = """\
bckd: knowledge distillation for dense object detectors

  bckd scenes        write the embedded benchmark, a small COCO-format data set
  bckd train PRESET  train a detector, with or without a teacher
  bckd eval RUN      average precision of a run's student, or of any weights
  bckd export RUN    a student as ONNX, as a torch.export program, or in the official layout
  bckd detectors     list the published weights that load by name
  bckd protocols     what softmax and sigmoid say of real score maps
  bckd demo          the whole story in minutes: three students, one report
  bckd study NAME    rerun or continue a published comparison; without NAME, list them

`bckd COMMAND --help` lists the options of a command.
"""


def main() -> None:
    """Entry point of the command line; what is refused is one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal that can't show a class name
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except (InputError, NonFiniteLossError) as error:
        _refuse(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # no space, no right, a name that the system refuses
        _refuse(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except Interrupted as error:
        error.__traceback__ = None  # with it go the processes that loaded images, in order
        if is_first():
            print(f"bckd: {error}", file=sys.stderr)
        sys.exit(128 + error.number)
    except KeyboardInterrupt:
        print("bckd: interrupted", file=sys.stderr)
        sys.exit(130)


def _refuse(sentence: str) -> NoReturn:
    sentence = f"bckd{process_name()}: error: {sentence}"
    end_under_torchrun(sentence, 2)
    print(sentence, file=sys.stderr)
    sys.exit(2)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code.

    Raises:
        InputError: unknown command or option, or what the command refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"command {name!r} is unknown; expected one of {', '.join(COMMANDS)}")
    importlib.import_module(COMMANDS[name]).run(rest)  # late: the others need not be loaded
    return 0

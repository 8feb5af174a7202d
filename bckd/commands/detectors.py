"""The command `bckd detectors`: the published weights that load by name."""

from __future__ import annotations

from bckd.commands.help import terminal_width
from bckd.system.errors import InputError
from bckd.weights.published import listing


def run(arguments: list[str]) -> None:
    """List them."""
    if arguments and arguments[0] not in ("-h", "--help", "--help-all"):
        raise InputError(f"bckd detectors takes no options, got {arguments[0]!r}")
    print("Published weights that load by name (bckd predict NAME, --teacher NAME),")
    print("with what they are and their AP on COCO val2017:\n")
    print(listing(terminal_width()))

"""The command `bckd detectors`: the published weights that load by name, or one in words."""

from __future__ import annotations

from bckd.commands.help import terminal_width
from bckd.system.errors import InputError
from bckd.weights.published import listing

_USAGE = """\
bckd detectors        list the published weights that load by name
bckd detectors RUN    what one is and how it was made; or a file
"""


def run(arguments: list[str]) -> None:
    """List them, or describe one."""
    if arguments and arguments[0] in ("-h", "--help", "--help-all"):
        print(_USAGE, end="")
        return
    if not arguments:
        print("Published weights that load by name (bckd predict NAME, --teacher NAME),")
        print("with what they are and their AP on COCO val2017:\n")
        print(listing(terminal_width()))
        return
    if len(arguments) > 1 or arguments[0].startswith("-"):
        raise InputError(f"bckd detectors takes one detector and no options, got {arguments[-1]!r}")
    from bckd.reports.described import described  # late: the list needs no network

    print(described(arguments[0]))

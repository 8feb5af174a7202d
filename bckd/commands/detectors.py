"""The command `bckd detectors`: the published weights that load by name."""

from __future__ import annotations

from bckd.system.errors import InputError
from bckd.weights.published import listing


def run(arguments: list[str]) -> None:
    """List them."""
    if arguments and arguments[0] not in ("-h", "--help"):
        raise InputError(f"bckd detectors takes no options, got {arguments[0]!r}")
    print("Published weights that load by name (bckd eval NAME, --teacher NAME):\n")
    print(listing())

"""The command `bckd export`: a detector as files that other programs read."""

from __future__ import annotations

from bckd.commands.parsing import existing, parse
from bckd.export.options import ExportOptions
from bckd.system.errors import InputError


def run(arguments: list[str]) -> None:
    """Write the files asked for."""
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] not in ("-h", "--help"):
            raise InputError(
                "bckd export needs the folder of a run, or weights, before its options"
            )
        print("bckd export RUN [options]\n\nRUN is the folder of a run, or weights.\n")
        arguments = ["RUN", "--help"]
    source, *rest = arguments
    options = parse(ExportOptions, rest, f"export {source}")
    from bckd.export.exporting import run_export  # late: no help and no typo needs it

    run_export(existing(source), options)

"""The command `bckd export`: a detector as files that other programs read."""

from __future__ import annotations

from bckd.commands.parsing import existing, parse, run_first
from bckd.export.options import ExportOptions


def run(arguments: list[str]) -> None:
    """Write the files asked for."""
    source, rest = run_first("export", arguments)
    options = parse(ExportOptions, rest, f"export {source}")
    from bckd.export.exporting import run_export  # late: no help and no typo needs it

    run_export(existing(source), options)

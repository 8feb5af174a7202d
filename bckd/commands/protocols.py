"""The command `bckd protocols`: both protocols on real score maps."""

from __future__ import annotations

from bckd.commands.options import ProtocolOptions
from bckd.commands.parsing import parse


def run(arguments: list[str]) -> None:
    """Run it with the options given."""
    options = parse(ProtocolOptions, arguments, "protocols")
    from bckd.commands.protocol_report import run_protocols  # late: no help and no typo needs it

    run_protocols(options)

"""The command `bckd demo`: three students of one teacher, and a report."""

from __future__ import annotations

from bckd.commands.options import DemoOptions
from bckd.commands.parsing import parse


def run(arguments: list[str]) -> None:
    """Run it with the options given."""
    options = parse(DemoOptions, arguments, "demo")
    from bckd.commands.demo_students import run_demo  # late: no help and no typo needs it

    run_demo(options)

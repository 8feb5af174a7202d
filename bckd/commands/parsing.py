"""Options and names that a user typed, as values; what is none of them is told."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import tyro

from bckd.system.errors import InputError


def parse(kind: Any, arguments: list[str], name: str, **settings: Any) -> Any:
    """Parse options into the dataclass `kind`.

    Raises:
        InputError: an option is unknown or has no such value, by its name.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                kind, args=arguments, prog=f"bckd {name}", return_unknown_args=True, **settings
            )
    except SystemExit as stop:
        if not stop.code:  # --help, which is printed by now
            raise
        raise InputError(_complaint(complaint.getvalue())) from stop
    if unknown:
        raise InputError(f"option {unknown[0]!r} is unknown; `bckd {name} --help` lists them")
    return parsed


def _complaint(box: str) -> str:
    """The paragraph of a boxed message of tyro that names the option, on one line."""
    rule = re.compile(r".*(\u2500{4}|-{4}).*")
    lines = ["" if rule.match(line) else line.strip("\u2502 ") for line in box.splitlines()]
    paragraphs = re.split(r"\n{2,}", "\n".join(lines))
    named = [" ".join(text.split()) for text in paragraphs if "--" in text]
    return named[0] if named else " ".join(box.split())


def existing(source: str) -> Path:
    """A file, a folder, or a published name.

    Raises:
        InputError: it is none.
    """
    from bckd.weights.published import PRETRAINED  # late: it imports requests

    if source in PRETRAINED or Path(source).exists():
        return Path(source)
    raise InputError(
        f"{source} does not exist; expected a run's folder, a weights file, or one of "
        f"{', '.join(PRETRAINED)}"
    )

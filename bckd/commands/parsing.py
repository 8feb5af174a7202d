"""Options and names that a user typed, as values; what is none of them is told."""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from bckd.commands.help import Short, options_of, short_page, terminal_width
from bckd.commands.option_names import unknown_option
from bckd.system.errors import InputError


def parse(
    kind: Any, arguments: list[str], name: str, short: Short | None = None, **settings: Any
) -> Any:
    """Parse options into the dataclass `kind`; where help is asked for, print it and leave.

    Args:
        name: of the command, with the words before its options.
        short: what --help shows; None: as --help-all, every option.
        settings: of `tyro.cli`.

    Raises:
        InputError: an option is unknown or has no such value, by its name.
        SystemExit: help was printed.
    """
    settings["prog"] = f"bckd {name}"
    asked = set(HELP) & set(arguments)
    if asked:
        page = _page(kind, settings)
        if short is not None and "--help-all" not in asked:
            page = short_page(short, page, name, settings.get("description") or kind.__doc__)
        print(page)
        raise SystemExit(0)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(kind, args=arguments, return_unknown_args=True, **settings)
    except SystemExit as stop:
        raise InputError(_complaint(complaint.getvalue())) from stop
    if unknown:
        names = [each for option in options_of(_page(kind, settings)) for each in option.names]
        raise InputError(unknown_option(unknown[0], names, name))
    return parsed


def _page(kind: Any, settings: dict[str, Any]) -> str:
    """tyro's help, with every option, in one column."""
    page, width = io.StringIO(), min(terminal_width(), 80)
    with _in_columns(width), contextlib.redirect_stdout(page):
        with contextlib.suppress(SystemExit):
            tyro.cli(kind, args=["--help"], **settings)
    lines: list[str] = []
    for line in page.getvalue().strip("\n").splitlines():
        inside = line.startswith(" ")  # a box: the rest tyro leaves as wide as it is
        lines += [line.rstrip()] if inside or not line else textwrap.wrap(line, width)
    return "\n".join(lines)


@contextlib.contextmanager
def _in_columns(count: int) -> Iterator[None]:
    """Within the block the terminal counts as so wide: in wider ones tyro sets many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _complaint(box: str) -> str:
    """The paragraph of a boxed message of tyro that names the option, on one line."""
    rule = re.compile(r".*(\u2500{4}|-{4}).*")
    lines = ["" if rule.match(line) else line.strip("\u2502 ") for line in box.splitlines()]
    paragraphs = re.split(r"\n{2,}", "\n".join(lines))
    named = [" ".join(text.split()) for text in paragraphs if "--" in text]
    return named[0] if named else " ".join(box.split())


RUN = "RUN"  # stands for the first word in a help that was asked for without one
HELP = ("-h", "--help", "--help-all")


def run_first(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The word that a command needs before its options, which names a detector, and the rest.

    Without any word, or with help asked for alone, they are `RUN` and that question.

    Raises:
        InputError: options come first.
    """
    if not arguments or arguments[0] in HELP:
        print("RUN is the folder of a run, a file of weights, or a published name.\n")
        return RUN, arguments or ["--help"]
    if arguments[0].startswith("-"):
        raise InputError(
            f"bckd {command} needs the folder of a run, or weights, before its options"
        )
    return arguments[0], arguments[1:]


def existing(source: str) -> Path:
    """A file, a folder, or a published name.

    Raises:
        InputError: it is none.
    """
    from bckd.weights.published import PRETRAINED, no_detector  # late: not every command needs it

    if source in PRETRAINED or Path(source).exists():
        return Path(source)
    raise InputError(no_detector(source))

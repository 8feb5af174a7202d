"""What `--help` prints: the options that people need, with an example; `--help-all` prints all."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_COLUMN = 26  # where the texts begin
_CUT = "..."


@dataclass(frozen=True)
class Short:
    """The short help of a command that has many options.

    Attributes:
        options: those to show, with their dashes, in this order.
        example: words after `bckd`, a line each.
        words: that the command takes before its options.
        by_data: options whose default the data choose, and what stands below them.
    """

    options: tuple[str, ...]
    example: tuple[str, ...]
    words: str = ""
    by_data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option as tyro's help has it.

    Attributes:
        names: of it, with their dashes.
        invocation: names and what stands behind them.
        text: what it does, and its default.
    """

    names: tuple[str, ...]
    invocation: str
    text: str


def terminal_width() -> int:
    """Columns that a line may take."""
    return max(shutil.get_terminal_size().columns, 40)


def options_of(page: str) -> list[Option]:
    """The options on a page of help that tyro wrote into a file, but for --help.

    There titles are indented by one space, options by two, and their texts further, beside them
    or below.
    """
    found: list[list[str]] = []
    current: list[str] | None = None
    for line in page.splitlines():
        words = line.strip()
        if re.match(r"  --?\w", line):
            current = [*re.split(r" {2,}", words, maxsplit=1), ""][:2]
            found.append(current)
        elif not line.startswith("  "):
            current = None  # a title, below which something may be said of all options
        elif current is not None:  # what has no indent of its own are its names, which go on
            current[line.startswith("   ")] += f" {words}"
    return [option for option in map(_option, found) if "--help" not in option.names]


def _option(parts: Sequence[str]) -> Option:
    invocation, text = (" ".join(part.split()) for part in parts)
    names = tuple(re.findall(r"(?:^|, )(--?[\w.-]+)", invocation))
    return Option(names, invocation, text)


def short_page(short: Short, page: str, name: str, text: str) -> str:
    """The short help of a command.

    Args:
        page: tyro's help of it, with all options.
        name: as it was typed, without its options.
        text: what it does.
    """
    options = options_of(page)
    by_name = {each: option for option in options for each in option.names}
    width = terminal_width()
    usage = " ".join(filter(None, ("bckd", name, short.words, "[options]")))
    lines = [usage, ""]
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines += [*textwrap.wrap(paragraph, width), ""]
    lines += ["For example:", *(f"  bckd {words}" for words in short.example), ""]
    for each in short.options:
        lines += _entry(_of_data(by_name[each], short), each, width)
    if len(short.options) < len(options):
        ending = f"`bckd {name} --help-all` lists all {len(options)} options."
        lines += ["", *textwrap.wrap(ending, width)]
    return "\n".join(lines)


def _of_data(option: Option, short: Short) -> Option:
    """The option, whose default is not the one that stands there where the data choose."""
    whole = any(f"{name}.".startswith(f"{x}.") for name in option.names for x in short.by_data)
    text = re.sub(r"\(default: .*\)$", "(default: chosen by the data)", option.text)
    return replace(option, text=text) if whole else option


def _entry(option: Option, name: str, width: int) -> list[str]:
    """Lines of an option, under one of its names."""
    value = option.invocation.rpartition(option.names[-1])[2].strip().replace("{None}|", "")
    text = option.text
    if len(value) > width - _COLUMN and value.startswith("{"):  # all that it may be
        value, text = "", f"{', '.join(re.split(r', *', value.strip('{}')))} {text}"
    return _beside(f"  {name} {value}".rstrip(), text, _COLUMN, width)


def _beside(head: str, text: str, column: int, width: int) -> list[str]:
    """Lines of a text that begins at a column, beside its head where there is room."""
    lines = textwrap.wrap(text, width - column) or [""]
    first = head if len(head) + 2 > column else f"{head:{column}}{lines.pop(0)}".rstrip()
    return [first, *(" " * column + line for line in lines)]


def listed(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, a line each, or several where the terminal is too narrow."""
    rows = list(rows)
    column = min(max(len(name) for name, _ in rows) + 4, _COLUMN)
    return "\n".join(
        line for name, text in rows for line in _beside(f"  {name}", text, column, terminal_width())
    )


def columns_of(text: str) -> int:
    """Columns that a text takes in a terminal: Chinese, Japanese and Korean letters take two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def shortened(text: str, width: int) -> str:
    """The end of a text, where it takes more columns than there are."""
    if columns_of(text) <= width:
        return text
    while columns_of(text) > width - len(_CUT):
        text = text[1:]
    return _CUT + text

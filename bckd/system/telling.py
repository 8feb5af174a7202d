"""The one place where a command tells what it made of its input, a sentence a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bckd.system.launcher import is_first

SHOWN = 3  # of many of a kind
_told: ContextVar[set[str] | None] = ContextVar("told", default=None)  # within `each_once`


def tell(sentence: str) -> None:
    """Print a sentence, in the first process of a run alone."""
    told = _told.get()
    if told is not None and sentence in told:
        return
    if told is not None:
        told.add(sentence)
    if is_first():
        print(sentence)


@contextmanager
def each_once() -> Iterator[None]:
    """Tell no sentence a second time within the block, or within one around it."""
    token = _told.set(set()) if _told.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _told.reset(token)


def tell_some(what: str, found: Iterable[str]) -> None:
    """Tell things of one kind by their number and the first three; nothing where there are none.

    Args:
        what: the sentence without them, with `{}` where their number belongs.
    """
    names = list(found)
    if names:
        tell(some(what, names))


def some(what: str, names: list[str]) -> str:
    """The sentence of `tell_some`."""
    return f"{what.replace('{}', str(len(names)))}: {first_of(names)}"


def first_of(names: list[str], separator: str = ", ") -> str:
    """The first three of a list in words, and how many more there are."""
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, what: str, many: str = "s") -> str:
    """A number of things in words; `many` makes their name a plural."""
    return f"{number} {what}{many if number != 1 else ''}"

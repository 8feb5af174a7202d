"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_FEW = 8  # names that a sentence lists
_MEANT = 3  # names that a sentence asks about
_PART = 3  # letters of a name's part that tell it
_ALIKE = 0.7  # of difflib's ratio


def expected(name: str, known: Iterable[str], listing: str = "") -> str:
    """The end of a sentence that refuses a name: what it may have meant, and what there is.

    Args:
        known: names that are known.
        listing: the command that lists them; many are not listed by the sentence itself.
    """
    names = list(known)
    near = nearest(name, names)
    question = question_of(near)
    if len(names) <= _FEW:
        listed = f"expected one of {', '.join(names)}"
        return f"{listed} ({question.strip()})" if question else listed
    if listing:
        ending = f"`{listing}` lists all {len(names)}"
    else:
        ending = f"expected one of {', '.join(names[:_MEANT])} and {len(names) - _MEANT} more"
    return question + ending


def question_of(near: list[str]) -> str:
    """Whether one of these was meant, and a space; nothing where there are none."""
    *others, last = near or [""]
    words = f"{', '.join(others)} or {last}" if others else last
    return f"did you mean {words}? " if near else ""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The few known names that are most like one, best first: of its spelling, or that hold it."""
    by_lower: dict[str, str] = {}
    for each in known:
        by_lower.setdefault(each.lower(), each)
    lower = name.lower()
    spelled = get_close_matches(lower, by_lower, _MEANT, _ALIKE)
    holding = [each for each in by_lower if len(lower) >= _PART and lower in each]
    return [by_lower[each] for each in dict.fromkeys([*spelled, *holding])][:_MEANT]


def nearest_path(path: Path) -> Path | None:
    """What there is of nearest names, folder by folder; None where nothing is like it."""
    if path.exists():
        return path
    folder = path.parent if path == path.parent else nearest_path(path.parent)
    if folder is None or not folder.is_dir():
        return None
    near = nearest(path.name, sorted(each.name for each in folder.iterdir()))
    return folder / near[0] if near else None


def absent(what: str, path: Path) -> str:
    """The sentence of a file or a folder that there is not, with what may have been meant.

    Args:
        what: the beginning of the sentence, which names the path.
    """
    near = nearest_path(path)
    question = question_of([str(near)] if near else [])
    return f"{what} does not exist; {question}".rstrip("; ")

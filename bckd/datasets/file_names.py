"""Which file a name in an annotation file means, where none is called exactly so.

Tools write names with the separators of another system, as parts of addresses, with folders of
the machine they ran on, with a mark before the name of an upload. What is told is told by
`bckd.datasets.entries`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

MOST_NAMES = 200_000  # below a folder that are searched for files
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # how Label Studio begins the name of an upload


def files_meant(wanted: Sequence[Sequence[str]], folder: Path) -> list[str | None]:
    """For each image its file's name, relative to the folder.

    A file that is called as the image's first name says is always the one. Another one is where
    it is the only one that the name can mean, and no other image's name means it too.

    Args:
        wanted: for each image its names, the likeliest first.

    Returns:
        None where no file, or more than one, can be meant.
    """
    if not folder.is_dir():
        return [None] * len(wanted)
    present = set(os.listdir(folder))
    exact = [
        names[0] if names[0] in present or (folder / names[0]).is_file() else None
        for names in wanted
    ]
    if None not in exact:
        return list(exact)
    listings = _Listings(folder)
    found = [
        name or next(filter(None, map(listings.meant, names)), None)
        for name, names in zip(exact, wanted, strict=True)
    ]
    if not any(found):
        found = _in_one_folder(wanted, folder)
    counts = Counter(found)
    alone = (name if name is not None and counts[name] == 1 else None for name in found)
    return [called or meant for called, meant in zip(exact, alone, strict=True)]


def _in_one_folder(wanted: Sequence[Sequence[str]], folder: Path) -> list[str | None]:
    """The names where all their last parts are files of a single folder below this one."""
    bases = [names[0].replace("\\", "/").rpartition("/")[2] for names in wanted]
    walk = ((place, name) for place, _, names in os.walk(folder) for name in names)
    places = {place for place, name in islice(walk, MOST_NAMES) if name in set(bases)}
    if len(places) == 1:
        (place,) = places
        below = Path(place).relative_to(folder)
        if set(bases) <= set(os.listdir(place)):
            return [(below / base).as_posix() for base in bases]
    return [None] * len(wanted)


class _Listings:
    """The names in folders below one, by what they have in common with others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_letters: dict[str, dict[str, list[str]]] = {}

    def meant(self, name: str) -> str | None:
        """The file that a name means; the nearest reading of all comes first."""
        readings = list(_readings(name))
        for reading in readings:
            if (self._folder / reading).is_file():
                return reading
        for reading in readings:
            parent, slash, base = reading.rpartition("/")
            found = self._alike(parent, base)
            if len(found) == 1 and (self._folder / parent / found[0]).is_file():
                return f"{parent}{slash}{found[0]}"
        return None

    def _alike(self, parent: str, base: str) -> list[str]:
        """The names in a folder that differ from one by case, way of composing or upload's mark."""
        names = self._names(parent)
        return names.get(_letters(base)) or names.get(_letters(_UPLOADED.sub("", base)), [])

    def _names(self, parent: str) -> dict[str, list[str]]:
        if parent not in self._by_letters:
            found: dict[str, list[str]] = {}
            self._by_letters[parent] = found
            place = self._folder / parent
            for name in os.listdir(place) if place.is_dir() else ():
                for key in {_letters(name), _letters(_UPLOADED.sub("", name))}:
                    found.setdefault(key, []).append(name)
        return self._by_letters[parent]


def _readings(name: str) -> Iterator[str]:
    """What a name says as a path, without more and more of its first folders."""
    for text in dict.fromkeys((name, unquote(name))):
        paths = (text, text.replace("?d=", "/"), text.partition("?")[0])
        for path in dict.fromkeys(path.replace("\\", "/") for path in paths):
            parts = [part for part in path.split("/") if part not in ("", ".", "..")]
            yield from ("/".join(parts[first:]) for first in range(len(parts)))


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

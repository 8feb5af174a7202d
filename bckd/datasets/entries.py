"""The images and categories of a COCO instances file, each cleaned or noted as a fault.

What harmlessly differs from COCO's own files is made right and noted too; see `Findings`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from msgspec import UNSET

from bckd.datasets.decoding import header_of
from bckd.datasets.findings import Fault, Findings, Oddity, place, shown
from bckd.datasets.instances_file import Annotation, Category, Image
from bckd.system.errors import InputError

BY_URL = Oddity("images without file_name are taken by the end of their coco_url")
BACKSLASHES = Oddity("backslashes in file names are read as slashes")
SIZES = Oddity("images without width and height have those of their files")
TWINS = Oddity("categories of one name are told apart by their ids")
ALIKE = Oddity("categories whose names differ by case, spaces or hyphens alone")


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of the file: id, file name below the image folder, size in pixels."""

    id: int | str
    file_name: str
    width: int
    height: int

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process shares equal sides too; see `_listed`."""
        return _listed, (self.id, self.file_name, self.width, self.height)


_one_of_equal = lru_cache(maxsize=None)(int)


def _listed(identity: int | str, file_name: str, width: int, height: int) -> ImageEntry:
    """An image; equal sides are one object, of which a hundred thousand images need few."""
    return ImageEntry(identity, file_name, _one_of_equal(width), _one_of_equal(height))


def read_images(
    raws: Iterable[Image | Any], folder: Path | None, findings: Findings
) -> list[ImageEntry]:
    """The images in the order of their ids.

    Args:
        folder: where the files are, for what the file does not say; None: it has to say all.

    Raises:
        InputError: there are faults.
    """
    read = [_image(raw, number, folder, findings) for number, raw in enumerate(raws, 1)]
    findings.check()
    found = [entry for entry in read if entry is not None]  # all: one that is None is a fault
    _check_unique("images", [entry.id for entry in found], findings)
    if len({type(entry.id) for entry in found}) > 1:
        kind = Fault("images with an id that is text, where others have numbers", "expected one")
        for number, entry in enumerate(found, 1):
            if isinstance(entry.id, str):
                findings.add(kind, place(entry.id, number))
    findings.check()
    return sorted(found, key=lambda entry: entry.id)


def _image(
    raw: Image | Any, number: int, folder: Path | None, findings: Findings
) -> ImageEntry | None:
    if not has_fields("images", raw, number, ("id",), findings):
        return None
    where = place(raw.id, number)
    if not (_whole(raw.id) or isinstance(raw.id, str)):
        kind = Fault("images whose id is neither a whole number nor text", "expected one of these")
        findings.add(kind, where)
        return None
    name = _file_name(raw, where, folder, findings)
    if name is None:
        return None
    entry = _listed(raw.id, name, _side(raw.width), _side(raw.height))
    if entry.width and entry.height:
        return entry
    return _measured(entry, where, folder, findings)


def _file_name(raw: Image, where: str, folder: Path | None, findings: Findings) -> str | None:
    name, url = raw.file_name, raw.coco_url
    if (name is None or name is UNSET) and isinstance(url, str):
        findings.add(BY_URL, where)
        name = "/".join(url.split("/")[-2:])
    if not _is_text(name):
        kind = Fault("images without a file_name", "expected the name of a file below the folder")
        findings.add(kind, where if raw.file_name is UNSET else f"{where} has {shown(name)}")
        return None
    if "\\" in name and folder is not None and not (folder / name).is_file():
        findings.add(BACKSLASHES, f"{where} {shown(name)}")
        name = name.replace("\\", "/")
    return name


def _measured(
    entry: ImageEntry, where: str, folder: Path | None, findings: Findings
) -> ImageEntry | None:
    """The entry with the size of its file."""
    if folder is None:
        kind = Fault("images without width or height of at least 1", "expected both, in pixels")
        findings.add(kind, f"{where} {entry.file_name}")
        return None
    try:
        header = header_of(folder / entry.file_name)
    except InputError as error:
        kind = Fault(
            "images without width and height whose file does not say them", "expected both"
        )
        findings.add(kind, f"{where}: {error}")
        return None
    findings.add(SIZES, f"{where} {entry.file_name} {header.width}x{header.height}")
    return replace(entry, width=header.width, height=header.height)


def read_categories(raws: Iterable[Category | Any], findings: Findings) -> list[tuple[int, str]]:
    """(id, name) of the categories in the order of their ids; the names are unique.

    Raises:
        InputError: there are faults.
    """
    found = []
    for number, raw in enumerate(raws, 1):
        if not has_fields("categories", raw, number, ("id", "name"), findings):
            continue
        where = place(raw.id, number)
        if not _whole(raw.id):
            findings.add(Fault("categories whose id is no whole number", "expected one"), where)
        elif not _is_line(raw.name):
            kind = Fault("categories whose name is no line of text", "expected one that shows")
            findings.add(kind, f"{where} has {shown(raw.name)}")
        else:
            found.append((raw.id, raw.name))
    findings.check()
    _check_unique("categories", [identity for identity, _ in found], findings)
    findings.check()
    twins = {name for name, count in Counter(name for _, name in found).items() if count > 1}
    for identity, name in found:
        if name in twins:
            findings.add(TWINS, f"{name!r} with id {identity} is called '{_apart(name, identity)}'")
    _note_alike(found, findings)
    return sorted((key, _apart(name, key) if name in twins else name) for key, name in found)


def _note_alike(categories: Sequence[tuple[int, str]], findings: Findings) -> None:
    alike: dict[str, dict[str, int]] = {}
    for identity, name in categories:
        letters = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(re.sub(r"[\s_-]+", "", letters) or name, {})[name] = identity
    for names in alike.values():
        if len(names) > 1:
            findings.add(ALIKE, " and ".join(f"{name!r} (id {key})" for name, key in names.items()))


def _apart(name: str, identity: int) -> str:
    return f"{name} (id {identity})"


def _check_unique(part: str, ids: Sequence[int | str], findings: Findings) -> None:
    kind = Fault(f"{part} with an id that an earlier one has", "expected an id of its own for each")
    first: dict[int | str, int] = {}
    for number, identity in enumerate(ids, 1):
        earlier = first.setdefault(identity, number)
        if earlier != number:
            findings.add(kind, f"{place(identity, number)} as entry {earlier}")


def has_fields(part: str, raw: Any, number: int, names: Sequence[str], findings: Findings) -> bool:
    """Whether an entry is an object with these fields; what is absent is noted."""
    if not isinstance(raw, Image | Category | Annotation):
        kind = Fault(
            f"entries of '{part}' that are no objects", "needs the fields of COCO's format"
        )
        findings.add(kind, f"entry {number} is {shown(raw)}")
        return False
    missing = [name for name in names if getattr(raw, name) is None]
    for name in missing:
        what = f"{part} without '{name}'"
        kind = Fault(what, f"expected {' and '.join(names)} in each")
        findings.add(kind, place(raw.id, number))
    return not missing


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, of a size that can be calculated with."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _whole(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> TypeGuard[str]:
    """Text that can be written as UTF-8: JSON may hold halves of a character."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_line(value: Any) -> bool:
    """Text that shows something, without a line break or another control character."""
    return (
        _is_text(value)
        and bool(value.strip())
        and not any(unicodedata.category(letter) == "Cc" for letter in value)
    )


def _side(value: Any) -> int:
    """A side of an image in pixels; 0 where the file says none."""
    whole = is_number(value) and value >= 1 and value == int(value)
    return int(value) if whole else 0

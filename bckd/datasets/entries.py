"""The images and categories of a COCO instances file, each cleaned or noted as a fault.

What harmlessly differs from COCO's own files is made right and noted too; see `Findings`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar

from msgspec import UNSET, Struct

from bckd.datasets.decoding import header_of
from bckd.datasets.file_names import files_meant
from bckd.datasets.findings import Fault, Findings, Oddity, place, shown
from bckd.datasets.instances_file import Annotation, Category, Image
from bckd.system.errors import InputError

BY_URL = Oddity("images without file_name are taken by the end of their coco_url")
BACKSLASHES = Oddity("backslashes in file names are read as slashes")
NAMES = Oddity("file names that are not there are read as the only files that they can mean")
SIZES = Oddity("images without width and height have those of their files")
WHOLE = Oddity("ids that are whole numbers in another way of writing are read as these")
DELETED = Oddity("entries that are marked as deleted are left out")
TWINS = Oddity("categories of one name are told apart by their ids")
NO_TRUTH = Fault("images whose labelled is neither true nor false", "expected one of these")
ALIKE = Oddity("categories whose names differ by case, spaces or hyphens alone")


NUMBERS = {int, float}
TOO_LARGE = 1e300  # to be calculated with


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of the file: id, file name below the image folder, size in pixels.

    Of one that is not labelled nothing is known: it may show objects, and has no box.
    """

    id: int | str
    file_name: str
    width: int
    height: int
    labelled: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process shares equal sides too; see `_listed`."""
        return _listed, (self.id, self.file_name, self.width, self.height, self.labelled)


_one_of_equal = lru_cache(maxsize=None)(int)


def _listed(
    identity: int | str, file_name: str, width: int, height: int, labelled: bool
) -> ImageEntry:
    """An image; equal sides are one object, of which a hundred thousand images need few."""
    return ImageEntry(identity, file_name, _one_of_equal(width), _one_of_equal(height), labelled)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Listed(NamedTuple, Generic[_Key, _Value]):
    """The entries of a list, by their ids and in the order of these.

    Attributes:
        by_id: None: the entry is at fault, or deleted.
        complete: whether all ids are known, so that one that is not here is none.
    """

    by_id: dict[_Key, _Value | None]
    complete: bool

    @property
    def usable(self) -> dict[_Key, _Value]:
        """Those that are not at fault."""
        return {key: value for key, value in self.by_id.items() if value is not None}


class _Row(NamedTuple):
    """An entry of 'images' whose id and names are of the right kinds."""

    number: int
    given: Any
    id: int | str
    names: tuple[str, ...]
    by_url: bool
    width: int
    height: int
    labelled: bool

    @property
    def where(self) -> str:
        """Id, as the file has it, and place in its list."""
        return place(self.given, self.number)


def read_images(
    raws: Iterable[Image | Any], folder: Path | None, findings: Findings
) -> Listed[int | str, ImageEntry]:
    """The images of the file.

    Args:
        folder: where the files are, for what the file does not say; None: it has to say all.
    """
    images: dict[int | str, ImageEntry | None] = {}
    rows: list[_Row] = []
    first: dict[int | str, int] = {}
    complete = True
    for number, raw in enumerate(raws, 1):
        identity = _id_of_image(raw, number, findings)
        if identity is None:
            complete = False
            continue
        row = _row(raw, identity, number, findings)
        if row is None:
            images.setdefault(identity, None)
        elif _is_new("images", row.id, number, first, findings):
            rows.append(row)
    meant = [None] * len(rows) if folder is None else files_meant([x.names for x in rows], folder)
    for row, name in zip(rows, meant, strict=True):
        images[row.id] = _image(row, name, folder, findings)
    if len({type(row.id) for row in rows}) > 1:
        kind = Fault("images with an id that is text, where others have numbers", "expected one")
        findings.add(kind, *(row.where for row in rows if isinstance(row.id, str)))
    ordered = sorted(images.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    return Listed(dict(ordered), complete)


def _id_of_image(raw: Image | Any, number: int, findings: Findings) -> int | str | None:
    if not has_fields("images", raw, number, ("id",), findings):
        return None
    if isinstance(raw.id, str):
        return raw.id
    identity = whole_number(raw.id)
    if identity is None:
        what = "images whose id is neither a whole number nor text"
        findings.add(Fault(what, "expected one of these"), place(raw.id, number))
    elif type(raw.id) is not int:
        findings.add(WHOLE, f"image {place(raw.id, number)}")
    return identity


def _row(raw: Image, identity: int | str, number: int, findings: Findings) -> _Row | None:
    """An entry; None where it is at fault, or deleted."""
    if raw.deleted is True:
        findings.add(DELETED, f"image with {place(raw.id, number)}")
        return None
    names, by_url = _names(raw)
    if not names:
        kind = Fault("images without a file_name", "expected the name of a file below the folder")
        where, name = place(raw.id, number), raw.file_name
        findings.add(kind, where if name is UNSET else f"{where} has {shown(name)}")
        return None
    if raw.labelled not in (None, True, False):
        findings.add(NO_TRUTH, f"{place(raw.id, number)} has {shown(raw.labelled)}")
        return None
    sides = _side(raw.width), _side(raw.height)
    known = raw.labelled in (None, True)
    return _Row(number, raw.id, identity, names, by_url, *sides, labelled=known)


def _names(raw: Image) -> tuple[tuple[str, ...], bool]:
    """What can name an image's file, the likeliest first, and whether that is its address."""
    name, url = raw.file_name, raw.coco_url
    if (name is None or name is UNSET) and _is_text(url):
        return ("/".join(url.split("/")[-2:]),), True
    if not _is_text(name):
        return (), False
    return ((name, raw.path) if _is_text(raw.path) else (name,)), False


def _image(
    row: _Row, meant: str | None, folder: Path | None, findings: Findings
) -> ImageEntry | None:
    """The image of an entry.

    Args:
        meant: see `files_meant`.
    """
    if row.by_url:
        findings.add(BY_URL, row.where)
    name = row.names[0]
    slashes = name.replace("\\", "/") if folder is not None else name
    if meant == slashes or (meant is None and slashes != name):
        if slashes != name:
            findings.add(BACKSLASHES, f"{row.where} {shown(name)}")
        name = slashes
    elif meant is not None and meant != name:
        if not row.by_url:
            findings.add(NAMES, f"{row.where} {shown(name)} as {shown(meant)}")
        name = meant
    entry = _listed(row.id, name, row.width, row.height, row.labelled)
    if entry.width and entry.height:
        return entry
    return _measured(entry, row.where, folder, findings)


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


def read_categories(raws: Iterable[Category | Any], findings: Findings) -> Listed[int, str]:
    """The names of the categories; they are unique."""
    names: dict[int, str | None] = {}
    first: dict[int | str, int] = {}
    complete = True
    for number, raw in enumerate(raws, 1):
        identity = _id_of_category(raw, number, findings)
        if identity is None:
            complete = False
        elif not _has_name(raw, number, findings):
            names.setdefault(identity, None)
        elif _is_new("categories", identity, number, first, findings):
            names[identity] = raw.name
    found = {key: name for key, name in names.items() if name is not None}
    twins = {name for name, count in Counter(found.values()).items() if count > 1}
    for identity, name in found.items():
        if name in twins:
            findings.add(TWINS, f"{name!r} with id {identity} is called '{_apart(name, identity)}'")
    _note_alike([*found.items()], findings)
    names |= {key: _apart(name, key) for key, name in found.items() if name in twins}
    return Listed(dict(sorted(names.items())), complete)


def _id_of_category(raw: Category | Any, number: int, findings: Findings) -> int | None:
    if not has_fields("categories", raw, number, ("id",), findings):
        return None
    text = isinstance(raw.id, str) and _is_decimal(raw.id)
    identity = int(raw.id) if text else whole_number(raw.id)
    where = place(raw.id, number)
    if identity is None:
        findings.add(Fault("categories whose id is no whole number", "expected one"), where)
    elif type(raw.id) is not int:
        findings.add(WHOLE, f"category {where}")
    return identity


def _has_name(raw: Category, number: int, findings: Findings) -> bool:
    if not has_fields("categories", raw, number, ("name",), findings):
        return False
    if not _is_line(raw.name):
        kind = Fault("categories whose name is no line of text", "expected one that shows")
        findings.add(kind, f"{place(raw.id, number)} has {shown(raw.name)}")
        return False
    return True


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


def _is_new(
    part: str, identity: int | str, number: int, first: dict[int | str, int], findings: Findings
) -> bool:
    """Whether no earlier entry has this id; `first` has where each was."""
    earlier = first.setdefault(identity, number)
    if earlier == number:
        return True
    kind = Fault(f"{part} with an id that an earlier one has", "expected an id of its own for each")
    findings.add(kind, f"{place(identity, number)} as entry {earlier}")
    return False


def has_fields(part: str, raw: Any, number: int, names: Sequence[str], findings: Findings) -> bool:
    """Whether an entry is an object with these fields; what is absent is noted."""
    if isinstance(raw, Struct) and not any(getattr(raw, name) is None for name in names):
        return True
    note_absent(part, raw, number, names, findings)
    return False


def note_absent(part: str, raw: Any, number: int, names: Sequence[str], findings: Findings) -> None:
    """Note what an entry lacks: to be an object, or some of these fields."""
    if not isinstance(raw, Image | Category | Annotation):
        kind = Fault(
            f"entries of '{part}' that are no objects", "needs the fields of COCO's format"
        )
        findings.add(kind, f"entry {number} is {shown(raw)}")
        return
    missing = [name for name in names if getattr(raw, name) is None]
    for name in missing:
        what = f"{part} without '{name}'"
        kind = Fault(what, f"expected {' and '.join(names)} in each")
        findings.add(kind, place(raw.id, number))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, of a size that can be calculated with."""
    return type(value) in NUMBERS and -TOO_LARGE < value < TOO_LARGE  # which nan is not


def whole_number(value: Any) -> int | None:
    """A value that is a whole number, 3.0 included; None: it is none."""
    if type(value) is float and is_number(value) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_decimal(text: str) -> bool:
    """Whether it is a whole number, of a length that ids have."""
    return text.isascii() and text.isdigit() and len(text) < 20


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

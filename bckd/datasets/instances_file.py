"""The lists of a COCO instances file, an entry at a time.

Nine tenths of COCO's file are polygons, which nothing here needs. msgspec passes over them, and
over every field that an entry's class does not name, so that an entry costs what is read of it.
What msgspec does not read (nan, halves of a character) Python's reader does, and says what is wrong
with the rest.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType

from bckd.datasets.other_formats import format_of
from bckd.system.errors import InputError
from bckd.system.files import parse_json, read_bytes, read_json, reading
from bckd.system.nearest import absent

_BLOCK = 1 << 20  # bytes


class Image(Struct):
    """Fields of an entry of 'images', whatever the file has there; UNSET or None: nothing."""

    id: Any = None
    file_name: Any = UNSET
    coco_url: Any = None
    path: Any = None
    width: Any = None
    height: Any = None
    deleted: Any = None
    labelled: Any = None


class Category(Struct):
    """As `Image`, of an entry of 'categories'."""

    id: Any = None
    name: Any = None


class Annotation(Struct):
    """As `Image`, of an entry of 'annotations'."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    segmentation: Raw = Raw()  # as it stands in the file: most are long, and few are looked at
    attributes: Any = None
    deleted: Any = None


class _File(Struct):
    images: list[Raw]
    categories: list[Raw]
    annotations: list[Raw] | UnsetType = UNSET


@dataclass(frozen=True)
class InstanceLists:
    """The lists of a file; an entry that is no object stands there as it is.

    Attributes:
        annotations: made as they are asked for, so that they never lie in memory together; None:
            the file has no such list.
        marked: whether a byte order mark precedes them.

    Raises:
        InputError: while entries are asked for: one has a number of thousands of digits.
    """

    images: Iterable[Image | Any]
    categories: Iterable[Category | Any]
    annotations: Iterable[Annotation | Any] | None
    marked: bool = False


def read_lists(path: Path) -> InstanceLists:
    """The lists of a COCO instances file.

    Raises:
        InputError: the file is absent, no JSON, or lacks a list, or one but that of the
            annotations is empty.
    """
    if not path.exists():
        raise InputError(absent(f"annotation file {path}", path))
    lists = _quickly(path)
    if lists is None:
        return lists_of(read_json(path), path, is_marked(path))
    return _listed(lists, path, is_marked(path), _let_go_of)


def lists_of(content: Any, path: Path, marked: bool = False) -> InstanceLists:
    """As `read_lists`, of what Python's reader made of a file."""
    return _listed(_by_python(content, path), path, marked, iter)


def is_marked(path: Path) -> bool:
    """Whether a file begins with a byte order mark, of UTF-8."""
    with reading(path), path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def _listed(lists: _File, path: Path, marked: bool, each: _Each) -> InstanceLists:
    rows = lists.annotations
    return InstanceLists(
        _entries(Image, each(lists.images), path),
        _entries(Category, each(lists.categories), path),
        None if rows is UNSET else _entries(Annotation, each(rows), path),
        marked,
    )


_Each = Callable[[list[Any]], Iterator[Any]]


def _let_go_of(values: list[Any]) -> Iterator[Any]:
    """Each value in turn, which the list no longer holds then."""
    values.reverse()
    while values:
        yield values.pop()


def _quickly(path: Path) -> _File | None:
    """The lists, their entries not yet taken apart; None where that takes Python's reader."""
    content = memoryview(read_bytes(path))
    if bytes(content[: len(codecs.BOM_UTF8)]) == codecs.BOM_UTF8:
        content = content[len(codecs.BOM_UTF8) :]
    decoder = codecs.getincrementaldecoder("utf-8")()  # msgspec looks at no text it passes over
    try:
        for start in range(0, len(content), _BLOCK):
            decoder.decode(content[start : start + _BLOCK])
        decoder.decode(b"", final=True)
        lists = msgspec.json.decode(content, type=_File)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return lists if lists.images and lists.categories else None


def _by_python(content: Any, path: Path) -> _File:
    """As `_quickly`, its entries as Python has them."""
    if (other := format_of(content)) is not None:
        raise InputError(f"{path} is {other}; expected COCO's, which the tool exports as well")
    if not isinstance(content, dict):
        raise InputError(f"annotation file {path} holds no object; expected COCO format")
    for key in ("images", "annotations", "categories"):
        absent = key not in content and key == "annotations"
        if not absent and not isinstance(content.get(key), list):
            raise InputError(f"{path}: field '{key}' is missing or no list; expected COCO format")
        if not absent and not content[key] and key != "annotations":
            raise InputError(f"{path}: no {key} listed")
    return _File(content["images"], content["categories"], content.get("annotations", UNSET))


_Entry = TypeVar("_Entry", bound=Struct)


def _entries(kind: type[_Entry], values: Iterator[Any], path: Path) -> Iterator[_Entry | Any]:
    decode = msgspec.json.Decoder(kind).decode
    for value in values:
        if not isinstance(value, Raw):
            yield _made(kind, value)
            continue
        try:
            yield decode(value)
        except (MsgspecError, RecursionError):
            yield _made(kind, parse_json(bytes(value), str(path)))


def _made(kind: type[_Entry], value: Any) -> _Entry | Any:
    """A value of Python's reader as an entry, where it is an object."""
    if not isinstance(value, dict):
        return value
    return kind(**{name: value[name] for name in kind.__struct_fields__ if name in value})

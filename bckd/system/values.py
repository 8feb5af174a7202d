"""Settings as plain values and back; the one place where values are checked.

A field says what it takes by its annotation: a kind (`int`, `Path`, `Literal["sgd", "adamw"]`), or
one of the ranges below. pydantic does the checking.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter, ValidationError

from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.system.telling import first_of

T = TypeVar("T")

_MOST = 10**15  # what is counted stays below the numbers that a float skips


def _from_home(path: Path) -> Path:
    """The path with a leading ~ as the folder that a shell would put there."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("a path whose ~ is somebody's home") from error


Count = Annotated[int, Field(ge=1, le=_MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Images = Annotated[int, Field(ge=1, le=16_384)]  # at once: more than was ever trained with
Workers = Annotated[int, Field(ge=0, le=128)]  # processes that load images, or none
Processes = Annotated[int, Field(ge=1, le=128)]
Pixels = Annotated[int, Field(ge=1, le=8192)]
Side = Annotated[int, Field(ge=8, le=8192)]  # pixels of an image's side: a cell of the finest
# level at least, and at most what a network of this kind finds memory for
Width = Annotated[int, Field(ge=1, le=4096)]  # channels of a layer, or numbers that it gives
Layers = Annotated[int, Field(ge=1, le=32)]
Strides = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=8)
]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
PositiveOrZero = Annotated[FiniteFloat, Field(ge=0)]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]
BelowOne = Annotated[FiniteFloat, Field(ge=0, lt=1)]
Scale = Annotated[FiniteFloat, Field(ge=0.01, le=1000)]  # what logits or sides are divided by
Deviation = Annotated[FiniteFloat, Field(ge=0.001, le=1)]  # of pixels in 0..1
Place = Annotated[Path, AfterValidator(_from_home)]  # a file or a folder

# What a value should have been, by pydantic's name of the fault, in words with its parts.
_EXPECTED = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "names and values",
    "dataclass_type": "the fields of {class_name}",
    "too_short": "{min_length} or more values",
    "too_long": "{max_length} or fewer values",
    "value_error": "{error}",
}
_LONGEST = 80  # letters of a value that are shown


def to_plain(value: Any) -> Any:
    """A dataclass, with all it holds, as dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    match value:
        case tuple() | list():
            return [to_plain(item) for item in value]
        case Path():
            return value.as_posix()
        case _ if _is("torch", "device", value):
            return str(value)
        case _ if _is("numpy", "generic", value):
            return value.item()
        case _:
            return value


def _is(module: str, name: str, value: Any) -> bool:
    """Whether a value is of a class of a package, which need not be loaded for it."""
    loaded = sys.modules.get(module)  # else there is no such value
    return loaded is not None and isinstance(value, getattr(loaded, name))


def from_plain(kind: type[T], plain: Any, name: str = "") -> T:
    """A dataclass, with all it holds, from dicts, lists, strings and numbers, as JSON has them.

    Args:
        kind: the dataclass. An absent field takes its default.
        name: where the values came from, for the message.

    Raises:
        InputError: a field is unknown, or a value is not of the kind or in the range that its
            field declares; all faults are named.
    """
    prefix = f"{name}: " if name else ""
    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
        value = adapter.validate_json(json.dumps(plain, default=_object), strict=True)
    except ValidationError as error:
        raise InputError(
            prefix + (_first_no_unicode(plain) or _sentences(error.errors()))
        ) from error
    except (TypeError, ValueError, RecursionError) as error:  # no JSON: odd keys, a circle
        raise InputError(f"{prefix}{error}") from error
    unknown = _unknown(plain, value)
    if unknown is not None:
        raise InputError(f"{prefix}{unknown}")
    return value


def checked(settings: T, name: str = "") -> T:
    """The same settings with every value of the kind that its field declares.

    Text is taken for a path, a device for its name.

    Raises:
        InputError: as `from_plain`.
    """
    return from_plain(type(settings), to_plain(settings), name)


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _object(value: Any) -> dict[str, str]:
    """What stands for a thing that JSON has not: no field takes it, and its fault shows it."""
    return {type(value).__name__: str(value)}


def _first_no_unicode(plain: Any) -> str | None:
    try:
        return next(_no_unicode(plain), None)
    except RecursionError:  # the sentences say so
        return None


def _no_unicode(plain: Any, place: str = "") -> Iterator[str]:
    """Each text that has no place in a JSON file, such as a path of bytes that are no UTF-8."""
    if isinstance(plain, dict):
        for key, item in plain.items():
            yield from _no_unicode(item, f"{place}.{key}" if place else str(key))
    elif isinstance(plain, list):
        for number, item in enumerate(plain):
            yield from _no_unicode(item, f"{place}.{number}")
    elif isinstance(plain, str) and plain != plain.encode("utf-8", "replace").decode():
        yield f"{place} is {plain!r}; expected text in Unicode"


def _sentences(faults: list[Any]) -> str:
    """The faults in words: the first three, and how many more there are."""
    places = [fault["loc"] for fault in faults]
    own = [  # a list whose entries are at fault counts as too short as well
        fault
        for fault in faults
        if fault["type"] != "too_short" or not any(fault["loc"] == x[:-1] for x in places)
    ]
    found = list(dict.fromkeys(_sentence(fault) for fault in own))
    return first_of(found, "; ")


def _sentence(fault: Any) -> str:
    if fault["type"] == "json_invalid":
        return f"it holds what is no text in Unicode, or is nested too deeply ({fault['msg']})"
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    if fault["type"] == "missing":
        return f"{place} is missing"
    words = fault["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    expected = _EXPECTED.get(fault["type"], words).format(**fault.get("ctx", {}))
    shown = repr(fault["input"])
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    return f"{place} is {shown}; expected {expected}"


def _unknown(plain: Any, value: Any) -> str | None:
    """The first entry that is no field of the dataclass at its place, in words."""
    if not dataclasses.is_dataclass(value):
        return None
    own = [field.name for field in dataclasses.fields(value)]
    for key, item in plain.items():
        if key not in own:
            return f"unknown field {key!r} of {type(value).__name__}; {expected(key, own)}"
        if (found := _unknown(item, getattr(value, key))) is not None:
            return found
    return None

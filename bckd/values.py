"""Settings as plain values and back; the one place where values are checked.

A field says what it takes by its annotation: a kind (`int`, `Path`, `Literal["sgd", "adamw"]`), or
one of the ranges below. pydantic does the checking.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from bckd.errors import InputError

T = TypeVar("T")

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
PositiveOrZero = Annotated[FiniteFloat, Field(ge=0)]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]

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
    "dataclass_type": "the fields of {class_name}",
    "missing": "a value",
}


def to_plain(value: Any) -> Any:
    """A dataclass, with all it holds, as dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else value


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
        value = _adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        found = dict.fromkeys(_sentence(fault) for fault in error.errors())
        raise InputError(prefix + "; ".join(found)) from error
    except (TypeError, ValueError) as error:  # no JSON value, such as torch.device
        raise InputError(f"{prefix}{error}") from error
    unknown = _unknown(plain, value)
    if unknown is not None:
        raise InputError(f"{prefix}{unknown}")
    return value


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _sentence(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    words = fault["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    expected = _EXPECTED.get(fault["type"], words).format(**fault.get("ctx", {}))
    return f"{place} is {fault['input']!r}; expected {expected}"


def _unknown(plain: Any, value: Any) -> str | None:
    """The first entry that is no field of the dataclass at its place, in words."""
    if not dataclasses.is_dataclass(value):
        return None
    own = {field.name for field in dataclasses.fields(value)}
    for key, item in plain.items():
        if key not in own:
            return f"unknown field {key!r} of {type(value).__name__}"
        if (found := _unknown(item, getattr(value, key))) is not None:
            return found
    return None

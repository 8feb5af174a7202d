"""Frozen dataclasses as plain JSON values and back, strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from bckd.errors import InputError


def to_plain(value: Any) -> Any:
    """A dataclass, with all it holds, as dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else value


def from_plain(kind: type, plain: dict[str, Any], name: str) -> Any:
    """The dataclass `kind` from what `to_plain` made of it.

    Args:
        name: where it came from, for the message.

    Raises:
        InputError: a field is unknown. An absent field takes its default.
    """
    hints = typing.get_type_hints(kind)
    unknown = set(plain) - set(hints)
    if unknown:
        raise InputError(f"{name}: unknown field {sorted(unknown)[0]!r} of {kind.__name__}")
    return kind(**{key: _convert(hints[key], value, name) for key, value in plain.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, name)
    if isinstance(hint, types.UnionType):  # such as Path | None
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if hint is Path:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value

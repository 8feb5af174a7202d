"""Things of the user's own that a recipe names: MODULE:NAME, or FILE.py:NAME."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bckd.errors import InputError, reason


@cache
def load_named(text: str, field: str) -> Callable[..., Any]:
    """What a text names, loaded once a process.

    Args:
        text: MODULE:NAME, with a module that can be imported, from the working folder too, or
            FILE.py:NAME.
        field: of the recipe, for messages.

    Raises:
        InputError: it names no function or class.
    """
    source, _, name = text.rpartition(":")
    if not (source and name):
        raise InputError(f"{field} has {text!r}; expected MODULE:NAME")
    try:
        found = getattr(module_of(source, text, field), name, None)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{field} has {text!r}, which can't be loaded: {reason(error)}") from error
    if not callable(found):
        raise InputError(f"{field} has {text!r}, but {source} has no function or class {name!r}")
    return found


def file_of(text: str, field: str) -> Path | None:
    """The file of the module that a text names; None where it has none, such as a notebook.

    Args:
        text, field: as `load_named` takes them, and raises.
    """
    load_named(text, field)
    file = module_of(text.rpartition(":")[0], text, field).__dict__.get("__file__")
    return None if file is None else Path(file)


def module_of(source: str, text: str, field: str) -> ModuleType:
    """A module by its name, or by its file; its folder stays where Python looks for modules, so
    that processes which load images find it too."""
    path = Path(source)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise InputError(f"{field} has {text!r}, but there is no file {path}")
    folder = str((path.parent if is_file else Path.cwd()).resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.import_module(path.stem if is_file else source)
    if is_file and Path(module.__file__ or "").resolve() != path.resolve():
        raise InputError(
            f"{field} has {text!r}, but there is another module {path.stem!r} "
            f"({module.__file__}); expected another name of the file"
        )
    return module

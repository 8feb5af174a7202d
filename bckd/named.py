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


def load_named(text: str, field: str) -> Callable[..., Any]:
    """What a text names.

    A module is loaded once a process; what it holds under the name now is taken, so that in a
    notebook a cell that is run again counts.

    Args:
        text: MODULE:NAME, with a module that can be imported, from the working folder too, or
            FILE.py:NAME. __main__:NAME is what a notebook or the running script defines; other
            processes, such as those of torchrun, do not have it.
        field: of the recipe, for messages.

    Raises:
        InputError: it names no function or class.
    """
    source, _, name = text.rpartition(":")
    if not (source and name):
        raise InputError(f"{field} has {text!r}; expected MODULE:NAME")
    try:
        found = getattr(_module(source, text, field), name, None)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{field} has {text!r}, which can't be loaded: {reason(error)}") from error
    if not callable(found):
        raise InputError(f"{field} has {text!r}, but {source} has no function or class {name!r}")
    return found


@cache
def _module(source: str, text: str, field: str) -> ModuleType:
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

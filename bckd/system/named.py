"""Things of the user's own that a recipe names: MODULE:NAME, or FILE.py:NAME."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bckd.system.errors import InputError, reason


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
    found = getattr(load_module(source, f"{field} has {text!r}"), name, None)
    if not callable(found):
        raise InputError(f"{field} has {text!r}, but {source} has no function or class {name!r}")
    return found


def file_of(text: str, field: str) -> Path | None:
    """The file of the module that a text names; None where it has none, such as a notebook.

    Args:
        text, field: as `load_named` takes them, and raises.
    """
    load_named(text, field)
    module = load_module(text.rpartition(":")[0], f"{field} has {text!r}")
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file)


@cache
def load_module(source: str, who: str) -> ModuleType:
    """A module by its name, or by its file; its folder stays where Python looks for modules, so
    that processes which load images find it too.

    Args:
        who: the beginning of the sentence that says what is wrong.

    Raises:
        InputError: there is none, or it is no Python.
    """
    path = Path(source)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise InputError(f"{who}, but there is no file {path}")
    folder = str((path.parent if is_file else Path.cwd()).resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(path.stem if is_file else source)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{who}, which can't be loaded: {reason(error)}") from error
    if is_file and Path(module.__file__ or "").resolve() != path.resolve():
        raise InputError(
            f"{who}, but there is another module {path.stem!r} ({module.__file__}); expected "
            f"another name of the file"
        )
    return module

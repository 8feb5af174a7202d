"""The house: imports go one way, from the top floor down, and in no circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bckd"

# From the top down: a module imports from rooms below its own floor, or from its own room. None
# is the hall: what stands in no room (bckd/structures.py, ...), but for what `bckd.load` gives.
FLOORS: list[set[str | None]] = [
    {"commands", "course"},
    {"prediction"},
    {"viz", "comparison"},
    {"studies", "bench"},
    {"training"},
    {"reports"},
    {"teachers"},
    {"inspection"},
    {"evaluation", "export"},
    {"zoo"},
    {"recipes"},
    {"models"},
    {"losses"},
    {"datasets", "weights", "assigners"},
    {None},
    {"system"},
]
FILES = {"prediction", None}  # no folders


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(name: str) -> set[str]:
    """The modules of the package that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            whole = len(inner) < len(node.names)
            found |= inner | ({node.module} if whole else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def room_of(name: str) -> str | None:
    """The room of a module; None of those that stand in the hall."""
    first = name.removeprefix("bckd").lstrip(".").partition(".")[0]
    return first if first in set().union(*FLOORS) else None


def floor_of(room: str | None) -> int:
    """Counted from the top."""
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


ENTRANCES = {"bckd", "bckd.__main__"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - ENTRANCES))
def test_imports_go_down(name: str) -> None:
    own = room_of(name)
    for other in imported(name) - ENTRANCES:
        theirs = room_of(other)
        below = own == theirs or floor_of(own) < floor_of(theirs)
        assert below, f"{name} imports {other}, which is above"


def test_no_circles() -> None:
    list(TopologicalSorter({name: imported(name) for name in MODULES}).static_order())


def test_every_folder_is_a_room_with_a_sign() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set().union(*FLOORS) - FILES
    for folder in folders:
        assert ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))

"""The official recipes that the COCO presets follow, setting by setting.

`official_recipes.json` has each family's values, with their names in the official configuration
and its files; and why a field of ours has no counterpart there, or differs.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from bckd.recipes import Recipe
from bckd.system.values import to_plain

_WHOLE = ("model.normalisation",)  # fields of several values that are told as one


@dataclass(frozen=True)
class Setting:
    """One setting of an official configuration.

    Attributes:
        name: there.
        value: there, as JSON has it.
        ours: the dotted name of our field, or MODULE:NAME of a constant of the package.
    """

    name: str
    value: Any
    ours: str


@dataclass(frozen=True)
class OfficialRecipe:
    """What is official of a preset.

    Attributes:
        source: the files of the configuration.
        settings: its settings.
        reasons: our fields without a counterpart, or that differ, and why.
    """

    source: str
    settings: tuple[Setting, ...]
    reasons: dict[str, str]


@cache
def official_recipe(preset: str) -> OfficialRecipe | None:
    """What is official of a preset; None of one that follows no official recipe."""
    table = json.loads((files(__package__) / "official_recipes.json").read_text(encoding="utf-8"))
    other = table["others"].get(preset, {})
    name = other.get("as", preset)
    if name not in table["families"]:
        return None
    family, reasons = table["families"][name], table["ours"]
    settings = tuple(Setting(x, other.get(ours, y), ours) for x, y, ours in family["settings"])
    source = other.get("source", family["source"])
    return OfficialRecipe(source, settings, reasons["any"] | reasons.get(name, {}))


def fields_of(recipe: Recipe) -> dict[str, Any]:
    """All fields of a recipe by their dotted names, with its family's values for every None."""
    plain = to_plain(replace(recipe, model=recipe.model.resolved()))

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and path not in _WHOLE:
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}" if path else key)
        else:
            yield path, value

    return dict(walk(plain, ""))


def value_of(ours: str, fields: dict[str, Any]) -> Any:
    """The value of a field, or of a constant of the package, by `Setting.ours`."""
    module, _, path = ours.partition(":")
    if not path:
        return fields[ours]
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return to_plain(value)


def equal(found: Any, official: Any) -> bool:
    """Whether two values are the same setting: numbers to rounding."""
    if isinstance(found, list) and isinstance(official, list):
        pairs = zip(found, official, strict=False)
        return len(found) == len(official) and all(equal(*pair) for pair in pairs)
    if isinstance(found, float) and isinstance(official, float):
        return math.isclose(found, official, rel_tol=1e-12)
    return bool(found == official)

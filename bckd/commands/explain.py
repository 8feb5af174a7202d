"""A recipe beside the official one, as text: `bckd train PRESET --explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bckd.recipes import Recipe
from bckd.recipes.left_open import FIELDS, open_settings
from bckd.recipes.official import OfficialRecipe, equal, fields_of, official_recipe, value_of
from bckd.training.recipe_check import check_recipe
from bckd.training.schedule import scaled_rate

# Of other families, or of methods that are switched off: told where a command asks for them.
_OTHER_TERMS = ("weights.", "losses.")

Row = tuple[str, str, str, str, str]  # mark, field, here, official, what that is


def explained(preset: str, recipe: Recipe, origin: Recipe) -> str:
    """A table of all settings of a recipe, and what its batch size does.

    Args:
        preset: that it began as; "": it began as a run.
        origin: the recipe of either.

    Raises:
        InputError: a setting is none that a run can have.
    """
    recipe = check_recipe(recipe)
    official = official_recipe(preset)
    rows: list[Row] = [("", "setting", "here", "official", "official name, or why there is none")]
    rows += _rows(recipe, official, fields_of(origin))
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = [
        "  ".join([*(x.ljust(w) for x, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_followed(preset, official, origin), *_scaled(recipe, official)])


def _rows(recipe: Recipe, official: OfficialRecipe | None, origin: dict[str, Any]) -> Iterator[Row]:
    fields = fields_of(recipe)
    if official is None:
        chosen = tuple(FIELDS[name] for name in open_settings(recipe))
        for name, value in fields.items():
            by_data = any(name == field or name.startswith(f"{field}.") for field in chosen)
            mark = "" if equal(value, origin[name]) else "+"
            yield mark, name, "by the data" if by_data else _shown(value), "", ""
        return
    for setting in official.settings:
        value = value_of(setting.ours, fields)
        mark = "" if equal(value, setting.value) else "*"
        yield mark, setting.ours, _shown(value), _shown(setting.value), setting.name
    known = {setting.ours for setting in official.settings}
    for name, value in fields.items():
        reason = official.reasons.get(name, "")
        changed = not equal(value, origin[name])
        if name not in known and (changed or reason or not name.startswith(_OTHER_TERMS)):
            yield "+" if changed else "", name, _shown(value), "", reason


def _followed(preset: str, official: OfficialRecipe | None, origin: Recipe) -> Iterator[str]:
    if official is not None:
        yield "*: another value than the official one; +: ours, and another than the preset's."
        yield f"Official: {official.source}"
    elif preset:
        yield "+: another value than the preset's."
        yield f"{preset} is ours: it follows no official recipe."
    else:
        yield f"+: another value than that of {origin.out}, whose settings these are."


def _scaled(recipe: Recipe, official: OfficialRecipe | None) -> Iterator[str]:
    settings, batch = recipe.optimisation, recipe.batch_size
    yield (
        f"Learning rate: {settings.learning_rate:g} for 16 images a step is "
        f"{scaled_rate(settings, batch):g} for {batch} (linear scaling)."
    )
    if recipe.epochs is not None:
        yield f"Length: {recipe.epochs} epochs, in steps once the images are counted."
        return
    if "steps" in open_settings(recipe):
        yield "Length: by the data, once the images are counted."
        return
    fields = {} if official is None else {x.ours: x.value for x in official.settings}
    images = fields.get("steps", 0) * fields.get("batch_size", 0)
    compared = f", officially {images:,}" if images else ""
    yield f"Length: {recipe.steps:,} steps see {recipe.steps * batch:,} images{compared}."


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return " ".join(_shown(item) for item in value) or "none"
        case dict():
            return _shown([_shown(item) for item in value.values()])
    return str(value)

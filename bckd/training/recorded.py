"""What a run's folder says of its settings."""

from __future__ import annotations

from pathlib import Path

from bckd.recipes import DataConfig, Recipe
from bckd.system.errors import InputError
from bckd.system.files import read_json
from bckd.system.values import from_plain

RECIPE = "recipe.json"


def recipe_of(source: Path | str) -> Recipe:
    """The recipe of a run, every setting a number or a name; what it lacks has its default.

    Args:
        source: the folder of the run, its student, one of its snapshots, or a recipe in JSON.

    Raises:
        InputError: there is none, or it has a field that no recipe of this version has.
    """
    path = Path(source)
    file = path if path.suffix == ".json" else _file_of(path)
    if file is None:
        raise InputError(
            f"{path} has no {RECIPE} beside it; expected the folder of a run, or a recipe in JSON"
        )
    return from_plain(Recipe, read_json(file), str(file))


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe of a run, as `recipe_of` has it; None of what was not trained by one."""
    file = _file_of(path)
    return None if file is None else recipe_of(file)


def recorded_data(path: Path) -> DataConfig:
    """What to evaluate on by default: the run's own data set, and the size of its images."""
    recipe = recorded_recipe(path)
    if recipe is None:
        from bckd.zoo.checkpoints import recorded_size  # late: a run needs none of it

        return DataConfig(size=recorded_size(path))
    return recipe.data


def _file_of(path: Path) -> Path | None:
    """In the folder of a run, in that of its student, or in the one above its snapshots."""
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    return next((x / RECIPE for x in folders if (x / RECIPE).is_file()), None)

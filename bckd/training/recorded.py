"""What a run's folder says of its settings."""

from __future__ import annotations

from pathlib import Path

from bckd.recipes import DataConfig, Recipe
from bckd.system.errors import InputError
from bckd.system.files import read_json
from bckd.system.nearest import absent
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
    folder = run_folder(path)
    file = path if path.suffix == ".json" else folder and folder / RECIPE
    if file is None:
        if not path.exists():
            raise InputError(absent(str(path), path))
        raise InputError(
            f"{path} has no {RECIPE} beside it; expected the folder of a run, or a recipe in JSON"
        )
    return from_plain(Recipe, read_json(file), str(file))


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe of a run, as `recipe_of` has it; None of what was not trained by one."""
    folder = run_folder(path)
    return None if folder is None else recipe_of(folder)


def run_folder(path: Path) -> Path | None:
    """The folder of the run: itself, that of its student, or the one above its snapshots."""
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    return next((folder for folder in folders if (folder / RECIPE).is_file()), None)


def recorded_data(path: Path) -> DataConfig:
    """What to evaluate on by default: the run's own data set, and the size of its images."""
    recipe = recorded_recipe(path)
    if recipe is None:
        from bckd.zoo.checkpoints import recorded_size  # late: a run needs none of it

        return DataConfig(size=recorded_size(path))
    return recipe.data

"""What a run's folder says of its data."""

from __future__ import annotations

from pathlib import Path

from bckd.recipes import DataConfig, Recipe
from bckd.system.files import read_json
from bckd.system.values import from_plain


def recorded_recipe(path: Path) -> Recipe | None:
    """The recipe of a run; None where these weights lie in none.

    The run is the folder itself, that of its student, or the one above its snapshots.
    """
    folder = run_folder(path)
    if folder is None:
        return None
    file = folder / "recipe.json"
    return from_plain(Recipe, read_json(file), str(file))


def run_folder(path: Path) -> Path | None:
    """The folder of the run, as `recorded_recipe` looks for it; None where there is none."""
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    return next((folder for folder in folders if (folder / "recipe.json").is_file()), None)


def recorded_data(path: Path) -> DataConfig:
    """What to evaluate on by default: the run's own data set, and the size of its images."""
    recipe = recorded_recipe(path)
    if recipe is None:
        from bckd.zoo.checkpoints import recorded_size  # late: a run needs none of it

        return DataConfig(size=recorded_size(path))
    return recipe.data

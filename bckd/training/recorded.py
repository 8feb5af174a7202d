"""What a run's folder says of its data."""

from __future__ import annotations

from pathlib import Path

from bckd.recipes import DataConfig, Recipe
from bckd.system.files import read_json
from bckd.system.values import from_plain


def recorded_data(path: Path) -> DataConfig:
    """What to evaluate on by default: the run's own data set, and the size of its images.

    The run is the folder itself, that of its student, or the one above its snapshots.
    """
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    found = (folder / "recipe.json" for folder in folders)
    recipe = next((file for file in found if file.is_file()), None)
    if recipe is None:
        from bckd.zoo.checkpoints import recorded_size  # late: a run needs none of it

        return DataConfig(size=recorded_size(path))
    return from_plain(Recipe, read_json(recipe), str(recipe)).data

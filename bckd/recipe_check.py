"""Values that a recipe can't have, refused before anything is read or written."""

from __future__ import annotations

import math

from bckd.errors import InputError
from bckd.recipes import Recipe


def check_recipe(recipe: Recipe) -> None:
    """Refuse values out of range.

    Raises:
        InputError: naming the field by its dotted name, its value and what was expected.
    """
    model, data, size = recipe.model, recipe.data, recipe.data.size
    optimisation = recipe.optimisation
    least_one = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "log_every": recipe.log_every,
        "checkpoint_every": recipe.checkpoint_every,
        "evaluate_every": recipe.evaluate_every,
        "data.first_train": data.first_train,
        "data.first_val": data.first_val,
        "data.size.short_side": size.short_side,
        "data.size.long_side": size.long_side,
        "data.size.pad_multiple": size.pad_multiple,
        "model.width": model.width,
        "model.channels": model.channels,
        "model.head_convs": model.head_convs,
        "model.head_groups": model.head_groups,
        "model.reg_max": model.reg_max,
    }
    for name, value in least_one.items():
        _require(value is None or value >= 1, name, value, "1 or more")
    least_zero = {
        "seed": recipe.seed,
        "data.workers": data.workers,
        "optimisation.warmup_steps": optimisation.warmup_steps,
    }
    for name, value in least_zero.items():
        _require(value >= 0, name, value, "0 or more")
    rate = optimisation.learning_rate
    _require(0 < rate < math.inf, "optimisation.learning_rate", rate, "a number above 0")
    _require(0 <= data.flip <= 1, "data.flip", data.flip, "0 to 1")
    groups = model.head_groups
    divides = model.channels % groups == 0
    _require(divides, "model.head_groups", groups, f"a divisor of {model.channels} channels")
    doubling = tuple(8 * 2**level for level in range(len(model.strides)))
    fits = len(doubling) >= 3 and tuple(model.strides) == doubling
    _require(fits, "model.strides", model.strides, "8 16 32 and perhaps 64, 128, ...")
    folders = (recipe.out, *recipe.out.parents)
    file = next((path for path in folders if path.exists() and not path.is_dir()), None)
    _require(file is None, "out", recipe.out, f"a folder, but {file} is a file")


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value}; expected {expected}")

"""Values that a recipe can't have, refused before anything is read or written."""

from __future__ import annotations

import math

from bckd.errors import InputError
from bckd.models.detector import DetectorConfig
from bckd.recipes import DataConfig, Recipe


def check_recipe(recipe: Recipe) -> None:
    """Refuse values out of range.

    Raises:
        InputError: naming the field by its dotted name, its value and what was expected.
    """
    check_data(recipe.data)
    _check_run(recipe)
    _check_model(recipe.model)
    _check_losses(recipe)


def check_data(data: DataConfig) -> None:
    """Refuse values of a data set out of range; raises as `check_recipe` does."""
    size = data.size
    least_one = {
        "data.first_train": data.first_train,
        "data.first_val": data.first_val,
        "data.size.short_side": size.short_side,
        "data.size.long_side": size.long_side,
        "data.size.pad_multiple": size.pad_multiple,
    }
    _require_one(least_one)
    require(data.workers >= 0, "data.workers", data.workers, "0 or more")
    require(0 <= data.flip <= 1, "data.flip", data.flip, "0 to 1")


def _check_run(recipe: Recipe) -> None:
    optimisation = recipe.optimisation
    least_one = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "log_every": recipe.log_every,
        "checkpoint_every": recipe.checkpoint_every,
        "evaluate_every": recipe.evaluate_every,
        "images_per_group": recipe.images_per_group,
    }
    _require_one(least_one)
    size, batch = recipe.images_per_group, f"a divisor of batch_size {recipe.batch_size}"
    require(not size or recipe.batch_size % size == 0, "images_per_group", size, batch)
    require(recipe.seed >= 0, "seed", recipe.seed, "0 or more")
    require(recipe.teacher_check >= 0, "teacher_check", recipe.teacher_check, "0 or more")
    warmup, rate, clip = (
        optimisation.warmup_steps,
        optimisation.learning_rate,
        optimisation.clip_norm,
    )
    require(warmup >= 0, "optimisation.warmup_steps", warmup, "0 or more")
    require(0 < rate < math.inf, "optimisation.learning_rate", rate, "a number above 0")
    require(clip is None or clip > 0, "optimisation.clip_norm", clip, "a number above 0")
    for name in ("bias_rate", "bias_decay"):
        value = getattr(optimisation, name)
        require(0 <= value < math.inf, f"optimisation.{name}", value, "0 or more")
    folders = (recipe.out, *recipe.out.parents)
    file = next((path for path in folders if path.exists() and not path.is_dir()), None)
    require(file is None, "out", recipe.out, f"a folder, but {file} is a file")


def _check_model(model: DetectorConfig) -> None:
    counts = ("width", "channels", "head_convs", "head_groups", "reg_max")
    _require_one({f"model.{name}": getattr(model, name) for name in counts})
    divisor = f"a divisor of {model.channels} channels"
    groups = model.head_groups
    require(model.channels % groups == 0, "model.head_groups", groups, divisor)
    scale = model.anchor_scale
    require(scale is None or scale > 0, "model.anchor_scale", scale, "above 0")
    doubling = tuple(8 * 2**level for level in range(len(model.strides)))
    fits = len(doubling) >= 3 and tuple(model.strides) == doubling
    require(fits, "model.strides", model.strides, "8 16 32 and perhaps 64, 128, ...")
    learns = model.pretrained or model.frozen_stages == 0
    scratch = "0 where the backbone starts from scratch"
    require(learns, "model.frozen_stages", model.frozen_stages, scratch)


def _check_losses(recipe: Recipe) -> None:
    for name, value in vars(recipe.weights).items():
        require(0 <= value < math.inf, f"weights.{name}", value, "0 or more")
    options = recipe.losses
    has_distributions = recipe.model.head == "gfl" or not (
        recipe.weights.ld or recipe.weights.ld_region
    )
    require(has_distributions, "model.head", recipe.model.head, "gfl, whose sides LD distils")
    require(options.binary_beta >= 0, "losses.binary_beta", options.binary_beta, "0 or more")
    for name in ("softmax_until", "binary_from"):
        value = getattr(options, name)
        require(0 <= value <= 1, f"losses.{name}", value, "0 to 1")
    for name in ("softmax_temperature", "ld_temperature"):
        value = getattr(options, name)
        require(value > 0, f"losses.{name}", value, "above 0")


def _require_one(values: dict[str, int | None]) -> None:
    for name, value in values.items():
        require(value is None or value >= 1, name, value, "1 or more")


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise an InputError that names a field, its value and what was expected."""
    if not holds:
        raise InputError(f"{name} is {value}; expected {expected}")

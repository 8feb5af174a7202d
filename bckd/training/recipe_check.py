"""What a recipe can't be, refused before anything is read or written.

Kinds and ranges stand at the fields themselves; here are the rules that relate several.
"""

from __future__ import annotations

from bckd.errors import InputError
from bckd.models.detector import DetectorConfig, HeadName
from bckd.recipes import LossWeights, Recipe
from bckd.values import from_plain, to_plain

DISTILLED = ("binary", "iou", "softmax", "ld", "ld_region")  # terms that need a teacher
SUPERVISED: dict[HeadName, tuple[str, ...]] = {
    "gfl": ("qfl", "dfl", "giou"),
    "retinanet": ("focal", "l1"),
    "fcos": ("focal", "log_iou", "centerness"),
    "atss": ("focal", "giou", "centerness"),
}


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe with every value of the kind that its field declares.

    Text is taken for a path, a device for its name.

    Raises:
        InputError: naming the field by its dotted name, its value and what was expected.
    """
    recipe = from_plain(Recipe, to_plain(recipe))
    _check_run(recipe)
    _check_model(recipe.model)
    _check_losses(recipe)
    return recipe


def _check_run(recipe: Recipe) -> None:
    size, batch = recipe.images_per_group, f"a divisor of batch_size {recipe.batch_size}"
    require(not size or recipe.batch_size % size == 0, "images_per_group", size, batch)
    unused = recipe.teacher is None and recipe.teacher_classes
    require(not unused, "teacher_classes", recipe.teacher_classes, "a teacher beside it")
    folders = (recipe.out, *recipe.out.parents)
    file = next((path for path in folders if path.exists() and not path.is_dir()), None)
    require(file is None, "out", recipe.out, f"a folder, but {file} is a file")


def _check_model(model: DetectorConfig) -> None:
    divisor = f"a divisor of {model.channels} channels"
    groups = model.head_groups
    require(model.channels % groups == 0, "model.head_groups", groups, divisor)
    doubling = tuple(8 * 2**level for level in range(len(model.strides)))
    fits = 3 <= len(doubling) <= 8 and tuple(model.strides) == doubling
    require(fits, "model.strides", model.strides, "8 16 32 and perhaps 64, 128, ... up to 1024")
    learns = model.pretrained or model.frozen_stages == 0
    scratch = "0 where the backbone starts from scratch"
    require(learns, "model.frozen_stages", model.frozen_stages, scratch)


def _check_losses(recipe: Recipe) -> None:
    weights, head = recipe.weights, recipe.model.head
    has_distributions = head == "gfl" or not (weights.ld or weights.ld_region)
    require(has_distributions, "model.head", head, "gfl, whose sides LD distils")
    if recipe.teacher is None or not distils(weights):
        own = SUPERVISED[head]
        learns = any(getattr(weights, name) for name in own)
        require(learns, f"every weight of {', '.join(own)}", 0, f"one above 0, for {head} to learn")


def distils(weights: LossWeights) -> bool:
    """Whether any distillation term takes part."""
    return any(getattr(weights, name) for name in DISTILLED)


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise an InputError that names a field, its value and what was expected."""
    if not holds:
        raise InputError(f"{name} is {value}; expected {expected}")

"""What a recipe can't be, refused before anything is read or written.

Kinds and ranges stand at the fields themselves; here are the rules that relate several.
"""

from __future__ import annotations

from bckd.losses.terms import TERMS
from bckd.models.detector import DetectorConfig
from bckd.models.heads import HEADS
from bckd.recipes import DataConfig, Recipe
from bckd.system.errors import InputError
from bckd.system.values import from_plain, to_plain
from bckd.training.own_terms import named_terms
from bckd.training.steering import named_shares
from bckd.zoo.torchvision_detectors import FAMILIES


def check_recipe(recipe: Recipe, taught: bool | None = None) -> Recipe:
    """The recipe with every value of the kind that its field declares.

    Text is taken for a path, a device for its name.

    Args:
        taught: whether there is a teacher; None: where the recipe names one.

    Raises:
        InputError: naming the field by its dotted name, its value and what was expected.
    """
    recipe = from_plain(Recipe, to_plain(recipe))
    taught = recipe.teacher is not None if taught is None else taught
    _check_run(recipe, taught)
    _check_data(recipe.data)
    _check_model(recipe.model)
    _check_losses(recipe, taught)
    return recipe


def _check_run(recipe: Recipe, taught: bool) -> None:
    size, batch = recipe.images_per_group, f"a divisor of batch_size {recipe.batch_size}"
    require(not size or recipe.batch_size % size == 0, "images_per_group", size, batch)
    alone = "None, or evaluate_every None, as one of the two decides"
    twice = recipe.evaluate_every is not None and recipe.evaluate_epochs is not None
    require(not twice, "evaluate_epochs", recipe.evaluate_epochs, alone)
    evaluated = recipe.evaluate_every is not None or recipe.evaluate_epochs is not None
    told = "None where nothing is evaluated on the way (evaluate_every, evaluate_epochs)"
    require(recipe.patience is None or evaluated, "patience", recipe.patience, told)
    bequeathed = recipe.teacher is not None and recipe.start is None and recipe.student is None
    heir = "false, but for a recipe's model with a teacher and without another start"
    require(bequeathed or not recipe.inherit, "inherit", "true", heir)
    unused = not taught and recipe.teacher_classes
    require(not unused, "teacher_classes", recipe.teacher_classes, "a teacher beside it")
    folders = (recipe.out, *recipe.out.parents)
    file = next((path for path in folders if path.exists() and not path.is_dir()), None)
    require(file is None, "out", recipe.out, f"a folder, but {file} is a file")


def _check_data(data: DataConfig) -> None:
    sides, longest = data.multi_scale, data.size.long_side
    rising = sides is None or sides[0] <= sides[1] <= longest
    expected = f"the smaller side first and none above data.size.long_side {longest}"
    require(rising, "data.multi_scale", sides, expected)


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


def _check_losses(recipe: Recipe, taught: bool) -> None:
    weights = recipe.weights
    head = FAMILIES[recipe.student] if recipe.student else recipe.model.head
    own = named_terms(recipe.terms)
    unused = own and not taught
    require(not unused, "terms", recipe.terms, "a teacher beside it")
    steered = named_shares(recipe)
    require(taught or not steered, "shares", recipe.shares, "a teacher beside it")
    if not (taught and distils(recipe)):
        learns = any(getattr(weights, name) for name in HEADS[head].terms)
        names = ", ".join(HEADS[head].terms)
        require(learns, f"every weight of {names}", 0, f"one above 0, for {head} to learn")


def distils(recipe: Recipe) -> bool:
    """Whether any distillation term takes part."""
    ours = any(getattr(recipe.weights, name) for name in TERMS)
    return ours or any(term.weight for term in named_terms(recipe.terms))


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise an InputError that names a field, its value and what was expected."""
    if not holds:
        raise InputError(f"{name} is {value}; expected {expected}")

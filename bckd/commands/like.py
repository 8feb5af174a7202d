"""`--like RUN`: the settings of a run as the defaults of a command."""

from __future__ import annotations

from itertools import pairwise

from bckd.recipes import Recipe

NAMES = ("--like", "--recipe")


def named_recipe(arguments: list[str]) -> Recipe | None:
    """The recipe that the options name, whose settings the other options override; None: none.

    It is looked for before the options are parsed, as it decides their defaults.

    Raises:
        InputError: what is named is no run and no recipe.
    """
    for word, after in pairwise([*arguments, ""]):
        name, equals, value = word.partition("=")
        if name in NAMES and (value or after):
            from bckd.training.recorded import recipe_of  # late: most commands name none

            return recipe_of(value if equals else after)
    return None

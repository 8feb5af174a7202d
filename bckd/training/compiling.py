"""Networks and losses of a run, compiled where its recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from bckd.recipes import Recipe

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, recipe: Recipe) -> Function:
    """The network or function, by torch.compile if the recipe says so.

    On two canvases each shape is compiled for itself, which gives the fastest code; otherwise a
    second shape is the sign that there will be many, and one graph serves all.
    """
    if not recipe.compile:
        return function
    dynamic = False if recipe.data.two_canvases else None
    return cast(Function, torch.compile(function, dynamic=dynamic))

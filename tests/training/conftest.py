"""A recipe with a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bckd.recipes import Recipe


@pytest.fixture
def distilling(tiny_recipe: Recipe, tiny_teacher: Path) -> Recipe:
    return replace(tiny_recipe, teacher=tiny_teacher)

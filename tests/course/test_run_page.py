"""The page of a run in a notebook."""

from __future__ import annotations

import html
from dataclasses import replace

from bckd.course.run_page import run_page
from bckd.recipes import Recipe
from bckd.training.trainer import train


def test_it_is_the_page_of_the_folder_in_a_frame(tiny_recipe: Recipe) -> None:
    train(replace(tiny_recipe, steps=1), progress=False)
    frame = run_page(tiny_recipe.out).data
    content = html.unescape(frame.partition('srcdoc="')[2])
    assert "1 of 1" in content and content.count("<img") == 3

"""What the figure of the learning rate shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bckd.course.figures_07 import learning_rates
from bckd.recipes.presets import PRESETS


def test_a_line_a_recipe_in_both_panels() -> None:
    _, official = PRESETS["coco-r50"]
    small = replace(official, batch_size=4, steps=4 * official.steps)
    whole, warm_up = learning_rates({"16": official, "4": small}).axes
    assert [line.get_label() for line in whole.lines] == ["16", "4"]
    highest = [max(line.get_ydata()) for line in warm_up.lines]
    assert highest == pytest.approx([0.01, 0.0025])
    last = [line.get_ydata()[-1] for line in whole.lines]
    assert last == pytest.approx([1e-4, 2.5e-5])

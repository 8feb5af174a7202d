"""Lengths in epochs are lengths in steps."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training.run import snapshot
from bckd.training.trainer import train
from bckd.zoo.unfinished import STUDENT


def test_a_run_of_epochs_is_one_of_as_many_steps(
    tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    """24 images, 10 a step, are three steps an epoch."""
    recipe = replace(tiny_recipe, batch_size=10, steps=99)
    by_epochs = replace(recipe, epochs=2, evaluate_epochs=1, out=recipe.out / "epochs")
    by_steps = replace(recipe, steps=6, evaluate_every=3, out=recipe.out / "steps")
    for each in (by_epochs, by_steps):
        train(each, progress=False)
        assert snapshot(each.out, 3).exists()
    students = [(each.out / STUDENT).read_bytes() for each in (by_epochs, by_steps)]
    assert students[0] == students[1]
    told = capsys.readouterr().out
    assert "2 epochs of 24 images, 10 a step, are 6 steps" in told
    recorded = json.loads((by_epochs.out / "recipe.json").read_text())
    assert (recorded["steps"], recorded["epochs"], recorded["evaluate_every"]) == (6, None, 3)
    train(replace(by_epochs, epochs=None, steps=6), resume=True, progress=False)


def test_one_of_two_lengths_decides(tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, evaluate_every=2, evaluate_epochs=1)
    with pytest.raises(InputError, match="evaluate_epochs is 1; expected None, or evaluate_every"):
        train(recipe, progress=False)

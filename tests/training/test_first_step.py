"""What a run says of itself at its start, and after its first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.recipes import LossWeights, Recipe
from bckd.training.first_step import FirstStep
from bckd.training.trainer import train

LABELS = ("qfl", "giou")


def said(capsys: pytest.CaptureFixture[str], *steps: dict[str, float]) -> list[str]:
    """What is told of weighted terms, step by step."""
    check, lines = FirstStep(), []
    for number, terms in enumerate(steps):
        values = {name: torch.tensor(value) for name, value in terms.items()}
        check.add(values, LABELS, number)
        lines += [f"{number}: {line}" for line in capsys.readouterr().out.splitlines()]
    return lines


def test_it_is_told_a_step_late_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    usual = {"qfl": 1.0, "giou": 0.5, "binary": 140.0, "iou": 0.1}
    assert said(capsys, usual, usual, usual) == []
    odd = {**usual, "binary": 151.0, "iou": 0.0}
    drowns, nothing = said(capsys, odd, odd, odd)
    assert drowns.startswith("1: the distillation term binary is 101 times the losses from labels")
    assert nothing == "1: the distillation term iou is 0 in the first step: it teaches nothing"
    assert said(capsys, usual, odd, odd) == []


def test_a_loss_from_labels_may_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    alone = {"qfl": 0.0, "giou": 0.0, "binary": 3.0}
    assert said(capsys, alone, alone) == []


def test_of_a_run(
    tiny_recipe: Recipe, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one step too, as it ends."""
    recipe = replace(tiny_recipe, teacher=tiny_teacher, steps=1)
    for weight, times in ((1.0, 0), (1e6, 1)):
        weights = LossWeights(binary=weight)
        train(replace(recipe, weights=weights, out=recipe.out / str(weight)), progress=False)
        assert capsys.readouterr().out.count("the distillation term binary is") == times


@pytest.mark.parametrize(("steps", "told"), [(2, True), (3, False)])
def test_a_run_that_is_too_short_to_warm_up(
    tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str], steps: int, told: bool
) -> None:
    train(replace(tiny_recipe, steps=steps), progress=False)
    sentence = "the run stops after 2 steps, within its warm-up of 2: it never learns at the full"
    assert (sentence in capsys.readouterr().out) == told

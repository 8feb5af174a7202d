"""The worked example of a detector of one's own, as student and as teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bckd.datasets.scene_drawing import class_names
from bckd.models.heads.head import SupervisedTerm
from bckd.recipes import LossWeights, Recipe
from bckd.system.named import load_named
from bckd.training.run_log import read_log
from bckd.training.trainer import train

YoloLike = load_named(f"{Path(__file__).with_name('yolo_like.py')}:YoloLike", "example")
ALL = LossWeights(softmax=0.75, ld=0.1)  # and BCKD's: LD takes its box distributions


def made(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return YoloLike(len(class_names("standard")))


def lines_of(recipe: Recipe) -> list[dict[str, dict[str, float]]]:
    return [line for line in read_log(recipe.out) if "unweighted" in line]


def test_it_learns_distilled(tiny_recipe: Recipe, tiny_teacher: Path) -> None:
    recipe = replace(tiny_recipe, teacher=tiny_teacher, weights=ALL, steps=20, checkpoint_every=20)
    student = made()
    before = {name: x.detach().clone() for name, x in student.named_parameters()}
    train(recipe, student=student, progress=False)
    assert all(not torch.equal(before[name], x) for name, x in student.named_parameters())
    lines = lines_of(recipe)
    supervised = {"scores", "sides", "overlap"}
    assert set(lines[0]["unweighted"]) == supervised | {"binary", "iou", "softmax", "ld"}
    first, last = (sum(line["loss"] for line in part) for part in (lines[:4], lines[-4:]))
    assert last < 0.9 * first


def test_it_teaches(tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, weights=ALL)
    train(recipe, teacher=made(), progress=False)
    assert {"binary", "iou", "softmax", "ld"} < set(lines_of(recipe)[0]["unweighted"])


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_its_own_weights_are_its_to_change(tiny_recipe: Recipe, weight: float) -> None:
    recipe = replace(tiny_recipe, steps=1)
    student = made()
    student.supervision.terms["sides"] = SupervisedTerm(weight, "another weight")
    train(recipe, student=student, progress=False)
    (line,) = lines_of(recipe)
    assert line["weighted"]["sides"] == pytest.approx(weight * line["unweighted"]["sides"])
    assert line["unweighted"]["sides"] > 0

"""A recipe from Python is checked like one from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bckd.losses.terms import TERMS
from bckd.models.detector import HEADS
from bckd.models.supervision import supervised_losses
from bckd.recipes import LossWeights, Recipe
from bckd.recipes.presets import PRESETS
from bckd.structures import Assignment, DenseOutput
from bckd.studies.study import changed
from bckd.system.errors import InputError
from bckd.training.recipe_check import check_recipe


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stay_as_they_are(name: str) -> None:
    assert check_recipe(PRESETS[name][1]) == PRESETS[name][1]


def test_what_means_the_same_is_taken(tiny_recipe: Recipe) -> None:
    text = replace(
        tiny_recipe,
        out=str(tiny_recipe.out),
        data=replace(tiny_recipe.data, root=str(tiny_recipe.data.root)),
        model=replace(tiny_recipe.model, strides=[8, 16, 32]),
        device=torch.device("cpu"),
        steps=np.int64(tiny_recipe.steps),
    )
    assert check_recipe(text) == tiny_recipe
    home = check_recipe(replace(tiny_recipe, out=Path("~/run"))).out
    assert home == Path.home() / "run"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "half"),
        ("optimisation.optimizer", "adam"),
        ("optimisation.momentum", 1.0),
        ("optimisation.weight_decay", -1.0),
        ("optimisation.warmup_start", -1.0),
        ("optimisation.drops", [2.0, -1.0]),
        ("losses.softmax_places", "x"),
        ("losses.ld_temperature", float("inf")),
        ("model.anchor_scale", float("inf")),
        ("model.width", 10**6),
        ("model.normalisation.deviation", [0.0, 1.0, 1.0]),
        ("model.postprocess.score_threshold", 2.0),
        ("model.postprocess.nms_iou", -1.0),
        ("model.postprocess.max_detections", 0),
        ("model.postprocess.candidates_per_level", -1),
        ("data.size.short_side", 1),
        ("data.size.long_side", 100_000),
        ("data.workers", 1000),
        ("batch_size", 10**9),
        ("seed", 2**63),
        ("steps", 2.5),
        ("device", 5),
    ],
)
def test_values_that_no_run_can_have(tiny_recipe: Recipe, field: str, value: Any) -> None:
    *parents, last = field.split(".")
    parts = [tiny_recipe]
    for name in parents:
        parts.append(getattr(parts[-1], name))
    part = replace(parts.pop(), **{last: value})
    while parents:
        part = replace(parts.pop(), **{parents.pop(): part})
    with pytest.raises(InputError, match=f"^{field}.* is .*; expected "):
        check_recipe(part)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images_per_group": 3}, "images_per_group is 3; expected a divisor of batch_size 4"),
        ({"teacher_classes": ["a=b"]}, r"teacher_classes is \('a=b',\); expected a teacher"),
        ({"model.head_groups": 3}, "model.head_groups is 3; expected a divisor of 8 channels"),
        ({"model.strides": [8, 16]}, r"model.strides is \(8, 16\); expected 8 16 32 and"),
        ({"model.frozen_stages": 1}, "model.frozen_stages is 1; expected 0 where"),
    ],
)
def test_values_that_do_not_go_together(
    tiny_recipe: Recipe, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_recipe(changed(tiny_recipe, changes))


@pytest.mark.parametrize("head", HEADS)
def test_a_loss_of_nothing(tiny_recipe: Recipe, head: str) -> None:
    nothing = replace(LossWeights(), **dict.fromkeys(HEADS[head].terms, 0.0))
    recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, head=head), weights=nothing)
    with pytest.raises(InputError, match=f"is 0; expected one above 0, for {head} to learn"):
        check_recipe(recipe)
    check_recipe(replace(recipe, teacher=Path("t")))  # distillation alone
    undistilled = replace(nothing, **dict.fromkeys(TERMS, 0.0))
    with pytest.raises(InputError, match="expected one above 0"):
        check_recipe(replace(recipe, teacher=Path("t"), weights=undistilled))


def test_every_familys_terms_are_known(
    dense_output: Any, assignment_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output: DenseOutput = dense_output()
    deltas = torch.zeros_like(output.boxes)
    quality = torch.zeros(output.boxes.shape[:2])
    anchors = torch.cat([output.locations.centres - 8, output.locations.centres + 8], dim=1)
    locations = replace(output.locations, anchors=anchors)
    output = replace(output, deltas=deltas, quality=quality, locations=locations)
    assignment: Assignment = assignment_of(output, {(0, 3): 1})
    for head, family in HEADS.items():
        assert set(supervised_losses(head, output, assignment)) == set(family.terms), head

"""Dataclasses as JSON values and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bckd.datasets.coco import ImageSize
from bckd.errors import InputError
from bckd.models.detector import DetectorConfig
from bckd.models.postprocess import PostProcess
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.serialisation import from_plain, to_plain

RECIPES = {
    "default": Recipe(),
    "changed": Recipe(
        model=DetectorConfig(strides=(8, 16), postprocess=PostProcess(nms_iou=0.5)),
        data=DataConfig(root=Path("a/b"), size=ImageSize(100, 200, 1), first_val=3),
        optimisation=Optimisation(drops=(0.5,), clip_norm=2.5),
        teacher=Path("c/teacher.pth"),
        evaluate_every=7,
    ),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_round_trip_through_json(recipe: Recipe) -> None:
    plain = to_plain(recipe)
    text = json.dumps(plain)
    assert json.loads(text) == plain
    assert from_plain(Recipe, json.loads(text), "recipe.json") == recipe


def test_an_absent_field_takes_its_default() -> None:
    found = from_plain(Recipe, {"steps": 5, "data": {"flip": 0.0}}, "recipe.json")
    assert found == replace(Recipe(), steps=5, data=DataConfig(flip=0.0))


@pytest.mark.parametrize(
    ("plain", "field", "kind"),
    [
        ({"stepps": 5}, "stepps", "Recipe"),
        ({"data": {"size": {"short": 3}}}, "short", "ImageSize"),
    ],
)
def test_an_unknown_field_is_named(plain: dict, field: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"^recipe.json: unknown field '{field}' of {kind}$"):
        from_plain(Recipe, plain, "recipe.json")

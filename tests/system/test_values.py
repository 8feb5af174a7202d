"""Settings as plain values and back, and what is refused on the way."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.models.postprocess import PostProcess
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.system.errors import InputError
from bckd.system.values import (
    Count,
    CountOrZero,
    Fraction,
    Positive,
    PositiveOrZero,
    from_plain,
    to_plain,
)

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
    with pytest.raises(InputError, match=f"^recipe.json: unknown field '{field}' of {kind};"):
        from_plain(Recipe, plain, "recipe.json")


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
        ({"steps": "5"}, "steps is '5'; expected a whole number"),
        ({"batch_size": True}, "batch_size is True; expected a whole number"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected 'auto', "),
        ({"optimisation": {"schedule": "linear"}}, "optimisation.schedule is 'linear'; expected"),
        ({"optimisation": {"drops": [0.5, "x"]}}, "optimisation.drops.1 is 'x'; expected a number"),
        ({"out": 5}, "out is 5; expected text"),
        ({"data": 5}, "data is 5; expected the fields of DataConfig"),
        (5, "the whole is 5; expected the fields of Recipe"),
        ({"device": object()}, "device is {'object': '<object object at"),
        (
            {"out": "~nobody-here/run"},
            "out is '~nobody-here/run'; expected a path whose ~ is somebody's home",
        ),
        ({"seed": 10**5000}, "Exceeds the limit"),
        ({"device": "\ud800"}, "device is '\\ud800'; expected text in Unicode"),
        ({"data": {"root": "a/\udce9"}}, "data.root is 'a/\\udce9'; expected text in Unicode"),
        (
            {"teacher_classes": "a" * 999},
            "teacher_classes is '" + "a" * 79 + "...; expected a list",
        ),
    ],
)
def test_a_value_of_another_kind_is_named(plain: object, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        from_plain(Recipe, plain, "recipe.json")
    assert str(refusal.value).startswith(f"recipe.json: {sentence}")


@dataclass(frozen=True)
class _Ranges:
    count: Count = 1
    some: CountOrZero = 0
    rate: Positive = 1.0
    weight: PositiveOrZero = 0.0
    part: Fraction = 0.0


@pytest.mark.parametrize(
    ("field", "right", "wrong", "expected"),
    [
        ("count", 1, 0, "1 or more"),
        ("some", 0, -1, "0 or more"),
        ("rate", 1e-9, 0, "above 0"),
        ("weight", 0, -0.5, "0 or more"),
        ("part", 1, 1.5, "1 or less"),
        ("part", 0, -0.5, "0 or more"),
        ("rate", 5, math.inf, "a finite number"),
        ("weight", 5, math.nan, "a finite number"),
    ],
)
def test_ranges(field: str, right: float, wrong: float, expected: str) -> None:
    assert getattr(from_plain(_Ranges, {field: right}), field) == right
    with pytest.raises(InputError, match=f"^{field} is {wrong}; expected {expected}$"):
        from_plain(_Ranges, {field: wrong})


def test_many_faults_are_counted() -> None:
    with pytest.raises(InputError, match=r"^teacher_classes.0 is 1; .* and 7 more$"):
        from_plain(Recipe, {"teacher_classes": [*range(1, 11)]})


def test_all_faults_are_named() -> None:
    with pytest.raises(InputError, match="^count is 0; .*; rate is -1; "):
        from_plain(_Ranges, {"count": 0, "rate": -1})

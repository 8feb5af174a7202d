"""A student and its twin: they differ in distillation alone, and go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.losses.terms import TERMS
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError
from bckd.training import run as running
from bckd.training import twin as twins
from bckd.training.recorded import recipe_of
from bckd.training.trainer import train
from bckd.training.twin import train_with_twin, twin_folder, twin_of
from bckd.weights.tensor_files import read_tensors
from bckd.zoo.unfinished import STUDENT


@pytest.fixture
def recipe(tiny_recipe: Recipe, tiny_teacher: Path) -> Recipe:
    return replace(tiny_recipe, teacher=tiny_teacher, steps=4, checkpoint_every=2)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / STUDENT)[0]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_twin_is_the_run_without_a_teacher(recipe: Recipe) -> None:
    found = train_with_twin(recipe, progress=False)
    alone, distilled = found.alone.out, found.distilled.out
    assert (distilled, alone) == (recipe.out, recipe.out.with_name("run-alone"))
    plain = replace(recipe, teacher=None, out=recipe.out.with_name("plain"))
    train(plain, progress=False)  # with weights for terms that play no part
    assert equal(weights(alone), weights(plain.out))
    assert not equal(weights(alone), weights(distilled))
    assert found.gain == found.distilled.metrics.AP - found.alone.metrics.AP


def test_recipes_differ_in_distillation_alone(recipe: Recipe) -> None:
    own, other = vars(recipe), vars(twin_of(recipe))
    assert {x for x in own if own[x] != other[x]} == {"teacher", "weights", "out"}
    assert not any(getattr(other["weights"], name) for name in TERMS)


@pytest.mark.parametrize("whose", ["distilled", "alone"])
def test_what_was_stopped_goes_on(
    recipe: Recipe,
    stop_at_first_state: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    whose: str,
) -> None:
    whole = train_with_twin(replace(recipe, out=recipe.out.with_name("whole")), progress=False)
    if whose == "alone":
        train(recipe, progress=False)
        stop_at_first_state(lambda: train(twin_of(recipe), progress=False))
    else:
        stop_at_first_state(lambda: train_with_twin(recipe, progress=False))
    steps = []
    step = running.Run.step
    monkeypatch.setattr(
        running.Run, "step", lambda self, *given: steps.append(self) or step(self, *given)
    )
    found = train_with_twin(recipe, resume=True, progress=False)
    assert len(steps) == (2 if whose == "alone" else 6)
    assert equal(weights(found.distilled.out), weights(whole.distilled.out))
    assert equal(weights(found.alone.out), weights(whole.alone.out))


def test_both_folders_are_free_before_the_first_step(recipe: Recipe) -> None:
    twin_folder(recipe.out).mkdir(parents=True)
    (twin_folder(recipe.out) / STUDENT).touch()
    with pytest.raises(InputError, match="run-alone already holds a run"):
        train_with_twin(recipe, progress=False)
    assert not recipe.out.exists()


def test_without_a_teacher_there_is_no_twin(tiny_recipe: Recipe) -> None:
    with pytest.raises(InputError, match="none is named"):
        train_with_twin(tiny_recipe)


def test_a_twin_has_nobody_to_inherit_from(recipe: Recipe) -> None:
    with pytest.raises(InputError, match="inherit is true; expected false beside a twin"):
        train_with_twin(replace(recipe, inherit=True))


def test_what_the_data_decide_is_the_same_for_both(
    scenes_root: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student of a run has its teacher's sizes; its twin has them, too, without a teacher."""
    begun: list[Recipe] = []

    def written(recipe: Recipe, *_: object) -> None:
        begun.append(recipe)
        recipe.out.mkdir(parents=True)
        (recipe.out / "recipe.json").write_text((tmp_path / "fitted.json").read_text())

    preset = PRESETS["custom-small"].recipe
    (tmp_path / "fitted.json").write_text('{"data": {"size": {"short_side": 96}}, "steps": 5}')
    monkeypatch.setattr(twins, "train", written)
    data = replace(preset.data, root=scenes_root)
    train_with_twin(replace(preset, data=data, teacher=tiny_teacher, out=tmp_path / "run"))
    student, twin = begun
    assert student.fit and not twin.fit
    assert (twin.data.size.short_side, twin.steps) == (96, 5)
    assert recipe_of(tmp_path / "run").steps == 5


def test_without_any_label_the_twin_is_refused_before_the_first_run(
    recipe: Recipe, tmp_path: Path
) -> None:
    data = recipe.data
    content = json.loads((data.root / data.train_annotations).read_text(encoding="utf-8"))
    content["annotations"] = []
    content["images"] = [image | {"labelled": False} for image in content["images"]]
    file = tmp_path / "unlabelled.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    data = replace(data, train_annotations=str(file))
    with pytest.raises(InputError, match="no image is labelled"):
        train_with_twin(replace(recipe, data=data), progress=False)
    assert not (recipe.out / "student.safetensors").exists()

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.image_size import ImageSize
from bckd.recipes import Recipe
from bckd.recipes.presets import SCENES_TEACHER
from bckd.system.errors import InputError
from bckd.teachers import check
from bckd.teachers.check import Preflight, check_teacher, examine
from bckd.training.data import validation_data
from bckd.training.trainer import train
from bckd.zoo.checkpoints import Checkpoint, load_detector

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    """Taught by the committed teacher, on scenes of the size that it was trained on."""
    data = replace(tiny_recipe.data, size=ImageSize(128, 128))
    return replace(
        tiny_recipe,
        data=data,
        teacher=ROOT / SCENES_TEACHER,
        teacher_check=8,
        steps=1,
    )


class TestTheCommittedTeacher:
    def test_passes_and_says_what_was_measured(
        self, recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        train(recipe, progress=False)
        said = capsys.readouterr().out
        assert "on 8 validation images" in said and "recorded 0.63" in said
        assert "chance" in said

    def test_is_refused_where_it_is_shown_other_images(self, recipe: Recipe) -> None:
        tiny = replace(recipe.data, size=ImageSize(32, 32))
        with pytest.raises(InputError, match="scenes_teacher.safetensors is .*chance|far below"):
            train(replace(recipe, data=tiny), progress=False)
        assert not (recipe.out / "student.safetensors").exists()


class TestRandomWeights:
    def test_are_refused(self, recipe: Recipe, tiny_teacher: Path) -> None:
        with pytest.raises(InputError) as caught:
            train(replace(recipe, teacher=tiny_teacher), progress=False)
        message = str(caught.value)
        assert "teacher.safetensors is no better than chance" in message
        assert "--teacher-check 0 trains with it anyway" in message

    def test_may_teach_where_nobody_checks(self, recipe: Recipe, tiny_teacher: Path) -> None:
        train(replace(recipe, teacher=tiny_teacher, teacher_check=0), progress=False)
        assert (recipe.out / "student.safetensors").exists()


def test_a_student_that_is_as_good_already(
    recipe: Recipe, tmp_path: Path, tiny_detector: Make
) -> None:
    started = replace(recipe, start=tmp_path / "start.safetensors")
    validation, teacher = validation_data(recipe.data), load_detector(ROOT / SCENES_TEACHER)
    with pytest.raises(InputError, match="no better than the student that it shall teach"):
        check_teacher(started, teacher, teacher.detector, validation)
    found = examine(started, teacher, tiny_detector(), validation)
    assert found.student is not None and found.student < found.AP
    assert examine(recipe, teacher, tiny_detector(), validation).student is None


def test_a_teacher_of_nan_is_told_by_the_images(recipe: Recipe, tiny_detector: Make) -> None:
    teacher = load_detector(ROOT / SCENES_TEACHER)
    with torch.no_grad():
        teacher.detector.head.box.bias.fill_(float("nan"))
    message = r"teacher .*scenes_teacher.safetensors gives boxes or .* on 8 images: 000001\.png, "
    with pytest.raises(InputError, match=message):
        check_teacher(recipe, teacher, tiny_detector(), validation_data(recipe.data))


def test_a_teacher_far_below_its_record(recipe: Recipe, tiny_detector: Make) -> None:
    teacher = replace(load_detector(ROOT / SCENES_TEACHER), record={"AP": 3.0})
    with pytest.raises(InputError, match="far below its recorded AP.*recorded 3.000"):
        check_teacher(recipe, teacher, tiny_detector(), validation_data(recipe.data))


def test_images_of_another_size_are_told(
    recipe: Recipe, tiny_detector: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = replace(load_detector(ROOT / SCENES_TEACHER), record={})
    small = replace(recipe, data=replace(recipe.data, size=ImageSize(96, 96)))
    check_teacher(small, teacher, tiny_detector(), validation_data(small.data))
    told = "; it was made for images of 128 by 128 pixels, these are brought to 96 by 96\n"
    assert told in capsys.readouterr().out
    with pytest.raises(InputError, match="128 by 128 .*96 by 96"):
        far = replace(teacher, record={"AP": 3.0})
        check_teacher(small, far, tiny_detector(), validation_data(small.data))
    capsys.readouterr()
    check_teacher(recipe, teacher, tiny_detector(), validation_data(recipe.data))
    assert "pixels" not in capsys.readouterr().out


@pytest.mark.parametrize(("share", "refused"), [(0.55, False), (0.45, True)])
def test_half_of_its_record_is_enough(
    recipe: Recipe,
    tiny_detector: Make,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    refused: bool,
) -> None:
    found = Preflight(images=32, AP=0.4 * share, chance=0.0, student=None, recorded=0.4)
    monkeypatch.setattr(check, "examine", lambda *arguments: found)
    monkeypatch.setattr(check, "better_view", lambda *arguments: None)
    arguments = (recipe, Checkpoint(tiny_detector(), recipe.data.size), tiny_detector(), None)
    if refused:
        with pytest.raises(InputError, match="far below its recorded AP"):
            check_teacher(*arguments)
    else:
        check_teacher(*arguments)


def test_a_teacher_that_was_trained_too_briefly(recipe: Recipe, tiny_detector: Make) -> None:
    """Its file records what is found here: nothing is wrong with classes or images."""
    teacher = Checkpoint(tiny_detector().eval(), recipe.data.size, {"AP": 0.0})
    with pytest.raises(InputError, match="no better than chance .*so train it for longer"):
        check_teacher(recipe, teacher, tiny_detector(), validation_data(recipe.data))

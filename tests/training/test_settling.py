"""What a run decides at its start, and says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bckd.datasets.annotations import read_annotations
from bckd.image_size import ImageSize
from bckd.recipes import Recipe
from bckd.recipes.fitted import fitted
from bckd.system.errors import InputError
from bckd.system.files import write_json
from bckd.system.values import to_plain
from bckd.training.recorded import recipe_of
from bckd.training.settling import settled
from bckd.training.trainer import train


@pytest.fixture
def open_recipe(tiny_recipe: Recipe) -> Recipe:
    """The tiny recipe with all that the data may decide left to them, but for its length."""
    default = Recipe()
    return replace(
        tiny_recipe,
        data=replace(tiny_recipe.data, size=default.data.size),
        model=replace(tiny_recipe.model, strides=default.model.strides, anchor_scale=None),
        fit=("size", "strides", "anchor_scale"),
        fit_pixels=96 * 96,
    )


class TestSettled:
    def test_a_run_records_numbers_and_says_them(
        self, open_recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = train(replace(open_recipe, steps=2), progress=False)
        recorded = recipe_of(result.out)
        assert not recorded.fit and recorded.data.size == ImageSize(96, 96)
        assert recorded.model.strides == (8, 16, 32, 64) and recorded.model.anchor_scale == 3
        told = "chosen by the data: images of at most 96 x 96 pixels, strides 8 16 32 64, anchors 3"
        assert told in capsys.readouterr().out

    def test_a_run_goes_on_with_what_it_began_with(self, open_recipe: Recipe) -> None:
        """Though the rules have changed since."""
        data = open_recipe.data
        annotations = read_annotations(data.root / data.train_annotations)
        began = fitted(open_recipe, annotations)
        other = replace(began, data=replace(data, size=ImageSize(64, 64)))
        write_json(open_recipe.out / "recipe.json", to_plain(other))
        assert settled(open_recipe, annotations, True, False).data.size == ImageSize(64, 64)
        assert settled(open_recipe, annotations, False, False).data.size == ImageSize(96, 96)

    def test_a_student_sees_what_its_teacher_does(
        self, open_recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = open_recipe.data
        annotations = read_annotations(data.root / data.train_annotations)
        size, strides = ImageSize(64, 64), (8, 16, 32, 64)
        model = replace(open_recipe.model, strides=strides, anchor_scale=4.0)
        teacher = replace(open_recipe, data=replace(data, size=size), model=model)
        folder = open_recipe.out / "teacher"
        write_json(folder / "recipe.json", to_plain(teacher))
        found = settled(replace(open_recipe, teacher=folder), annotations, False, True)
        assert (found.data.size, found.model.strides) == (size, strides)
        assert found.model.anchor_scale == 4 and not found.fit
        assert "chosen as its teacher's and by the data: images of" in capsys.readouterr().out


class TestRecipeOf:
    def test_a_folder_a_student_or_a_file(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        file = tiny_recipe.out / "recipe.json"
        write_json(file, to_plain(tiny_recipe))
        places = ("", "student.safetensors", "snapshots/000003.safetensors", "recipe.json")
        assert [recipe_of(tiny_recipe.out / x) for x in places] == [tiny_recipe] * 4
        assert recipe_of(str(tiny_recipe.out)) == tiny_recipe
        with pytest.raises(InputError, match="expected the folder of a run, or a recipe in JSON"):
            recipe_of(tmp_path)

    def test_fields_of_other_versions(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({"steps": 3}))
        assert recipe_of(path) == Recipe(steps=3)
        path.write_text(json.dumps({"steps": 3, "warp": 9}))
        with pytest.raises(InputError, match=r"mine.json: unknown field 'warp' of Recipe"):
            recipe_of(path)


class TestTold:
    def lines(self, text: str) -> list[str]:
        return [x for x in text.splitlines() if x.startswith(("data: ", "model: "))]

    def test_data_and_model_in_a_line_each(
        self, tiny_recipe: Recipe, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recipe = replace(tiny_recipe, teacher=tiny_teacher, steps=3)
        result = train(recipe)
        data, model = self.lines(capsys.readouterr().out)
        boxes = json.loads((recipe.data.root / recipe.data.train_annotations).read_text())
        assert f"24 images (val 8), {len(boxes['annotations'])} boxes of 6 classes" in data
        assert data.endswith("after resizing to 64x64")
        count = sum(x.numel() for x in result.detector.parameters())
        assert f"student {count / 1000:.3g} thousand, teacher " in model
        assert model.endswith("cpu, float32; 3 steps of 4 images, 0.5 epochs")

    def test_nothing_without_progress(
        self, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        train(replace(tiny_recipe, steps=3), progress=False)
        text = capsys.readouterr().out
        assert self.lines(text) == [] and "images to evaluate on are few" not in text

    def test_advice_is_three_sentences_at_most(
        self, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of five: small objects, rare classes, length, few images, few to evaluate on."""
        train(replace(tiny_recipe, steps=3))
        lines = capsys.readouterr().out.splitlines()
        start = next(n for n, x in enumerate(lines) if x.startswith("model: ")) + 1
        marks = ("below", "fewer than", "the run sees", "images are few", "evaluate on are few")
        told = [x for x in lines[start:] if any(mark in x for mark in marks)]
        assert len(told) == 3
        assert "the finest cell is 8" in told[0] and "the run sees 50 % of the images" in told[2]

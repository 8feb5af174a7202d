"""`bckd train`: the settings of another run, and a twin; `bckd eval` on the data of another run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bckd.commands import evaluate
from bckd.commands.main import run
from bckd.commands.options import EvaluatedAtSize
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError
from bckd.system.files import write_json
from bckd.system.values import to_plain
from bckd.training import preparing, trainer
from bckd.training.recorded import recipe_of
from bckd.training.trainer import train


@pytest.fixture
def trained(tiny_recipe: Recipe) -> Path:
    """A run of two steps."""
    train(replace(tiny_recipe, steps=2, seed=5), progress=False)
    return tiny_recipe.out


@pytest.mark.parametrize("spelling", ["--like {}", "--recipe {}/recipe.json", "--like={}"])
def test_every_setting_of_a_run_but_its_folder(
    trained: Path, tmp_path: Path, spelling: str
) -> None:
    words = spelling.format(trained).split()
    run(["train", *words, "--out", str(tmp_path / "other"), "--steps", "1"])
    own, other = recipe_of(trained), recipe_of(tmp_path / "other")
    assert other == replace(own, steps=1, out=tmp_path / "other")


def test_settings_of_a_run_want_a_folder_and_no_preset(trained: Path) -> None:
    with pytest.raises(InputError, match="--out is missing"):
        run(["train", "--like", str(trained)])
    with pytest.raises(InputError, match="preset scenes and --like are both given"):
        run(["train", "scenes", "--like", str(trained), "--out", "x"])
    with pytest.raises(InputError, match="nothing does not exist"):
        run(["train", "--like", str(trained.parent / "nothing"), "--out", "x"])
    with pytest.raises(InputError, match="preset '--steps' is unknown"):
        run(["train", "--steps", "3"])


def test_help_shows_the_settings_of_the_run(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(["train", "--like", str(trained), "--help"])
    assert "(default: 5)" in capsys.readouterr().out  # the seed


def test_a_twin_is_trained_and_compared(
    trained: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student"
    words = ["train", "--like", str(trained), "--teacher", str(tiny_teacher), "--out", str(out)]
    run([*words, "--twin"])
    folders = (out, out.with_name("student-alone"))
    ours, alone = (100 * json.loads((x / "results.json").read_text())["AP"] for x in folders)
    text = capsys.readouterr().out
    for folder in folders:
        assert f"the student and its log are in {folder} (" in text
    last, report = text.splitlines()[-2:]
    assert last.startswith(f"AP {ours:.1f} with the teacher, {alone:.1f} alone")
    assert "of one seed" in last
    assert report.startswith(f"bckd report {out} {folders[1]} ")
    with pytest.raises(InputError, match="already holds a run"):
        run([*words, "--twin"])
    run([*words, "--twin", "--resume"])
    assert capsys.readouterr().out.splitlines()[-2] == last


def test_eval_on_the_data_of_another_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its evaluation, at the size that goes with the weights."""
    own = recipe_of(trained)
    data = replace(own.data, first_val=3, size=replace(own.data.size, short_side=32))
    evaluation = replace(own.evaluation, scorer="pycocotools")
    write_json(tmp_path / "other.json", to_plain(replace(own, data=data, evaluation=evaluation)))
    asked: list[evaluate.EvalOptions] = []
    monkeypatch.setattr(evaluate, "_evaluate", lambda path, options: asked.append(options))
    run(["eval", str(trained), "--recipe", str(tmp_path / "other.json"), "--batch-size", "2"])
    (options,) = asked
    assert options.data == EvaluatedAtSize.of(replace(own.data, first_val=3))
    assert options.device == "cpu"
    assert (options.evaluation.scorer, options.evaluation.batch_size) == ("pycocotools", 2)


@pytest.mark.parametrize("preset", [x for x in PRESETS if x.startswith("custom")])
def test_a_preset_of_ones_own_data_starts(
    custom_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    begun = []

    class Begun(Exception):
        pass

    def stopped(recipe: Recipe, *_: object) -> None:
        begun.append(recipe)
        raise Begun

    monkeypatch.setattr(preparing, "check_same_classes", lambda training, _: training)
    monkeypatch.setattr(preparing, "contents_of", stopped)
    words = ["--data.root", str(custom_root), "--out", str(tmp_path / "run"), "--device", "cpu"]
    with pytest.raises(Begun):
        run(["train", preset, *words])
    (recipe,) = begun
    assert not recipe.fit and max(recipe.model.strides) <= 64
    assert recipe.data.size.short_side <= 96


def test_an_option_sets_what_the_data_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it says what the official recipe has, and of a size but one side."""
    begun: list[Recipe] = []

    def stopped(recipe: Recipe, **_: object) -> None:
        begun.append(recipe)
        raise InputError("enough")

    monkeypatch.setattr(trainer, "train", stopped)
    options = [
        ("--data.size.short-side 800", "size"),
        ("--data.size.pad-multiple=32", "size"),
        ("--model.strides 8 16 32 64 128", "strides"),
        ("--model.anchor_scale=8", "anchor_scale"),
        ("--epochs 4", "steps"),
        ("--steps 87960", "steps"),
        ("--data.no-cache", "cache"),
        ("--seed 1", None),
    ]
    for words, name in options:
        with pytest.raises(InputError, match="enough"):
            run(["train", "custom-small", *words.split()])
        left = [x for x in PRESETS["custom-small"].recipe.fit if x != name]
        assert list(begun.pop().fit) == left, words


def test_an_explanation_says_what_the_data_choose(capsys: pytest.CaptureFixture[str]) -> None:
    run(["train", "custom-small", "--model.strides", "8", "16", "32", "--explain"])
    lines = capsys.readouterr().out.splitlines()
    chosen = {line.split()[0] for line in lines if line.endswith("by the data")}
    assert {"data.size.short_side", "data.size.long_side", "model.anchor_scale", "steps"} <= chosen
    assert "model.strides" not in chosen
    assert "Length: by the data, once the images are counted." in lines


def test_an_explanation_beside_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs from it is marked; no official recipe is named."""
    options = ["--like", str(trained), "--out", "elsewhere", "--batch-size", "7", "--explain"]
    assert run(["train", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines if line.startswith("+  ")} == {"batch_size", "out"}
    assert f"+: another value than that of {trained}, whose settings these are." in lines
    assert not any("fficial recipe" in line or "official:" in line for line in lines)


def test_commands_on_a_run_need_no_options(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["eval", str(trained)]) == 0
    assert run(["report", str(trained)]) == 0
    assert (tmp_path / "runs" / "report" / "report.html").is_file()

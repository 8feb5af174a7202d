"""A student's file says how it was made, and a model card beside it says it to people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bckd
from bckd.commands.main import run as run_command
from bckd.recipes import Recipe
from bckd.reports.model_card import BEGIN, CARD, END
from bckd.system.errors import InputError
from bckd.system.files import sha256_of
from bckd.training import origin
from bckd.training.origin import _thinned, _without_folders
from bckd.training.trainer import train
from bckd.weights.tensor_files import read_tensors, save_tensors
from bckd.zoo.checkpoints import load_detector, load_module
from bckd.zoo.made import ENTRY, Made, Point
from bckd.zoo.unfinished import STUDENT

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def recipe(
    scenes_root: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recipe:
    from tests.conftest import TINY_MODEL  # the fixture `tiny_recipe` lives for one test alone

    out = tmp_path_factory.mktemp("runs") / "first"
    data = bckd.PRESETS["scenes"].recipe.data
    data = replace(data, root=scenes_root, size=replace(data.size, short_side=64, long_side=64))
    return Recipe(
        model=TINY_MODEL,
        data=data,
        out=out,
        teacher=tiny_teacher,
        teacher_check=0,
        steps=4,
        batch_size=4,
        precision="float32",
        device="cpu",
        log_every=1,
        evaluate_every=2,
    )


@pytest.fixture(scope="module")
def run(recipe: Recipe) -> Path:
    return train(recipe, progress=False).out


@pytest.fixture(scope="module")
def made(run: Path) -> Made:
    found = load_detector(run).made
    assert found is not None
    return found


class TestTheFile:
    def test_says_what_the_student_was_made_of(self, made: Made, recipe: Recipe) -> None:
        assert recipe.teacher is not None
        annotations = recipe.data.root / recipe.data.train_annotations
        assert made.detector == "GFL on small_resnet"
        assert made.teacher is not None and made.start is None
        assert (made.teacher.name, made.teacher.sha256) == (
            "teacher.safetensors",
            sha256_of(recipe.teacher),
        )
        assert made.train.annotations.sha256 == sha256_of(annotations)
        assert (made.train.images, made.val.images) == (24, 8)
        content = json.loads(annotations.read_text())
        assert sum(made.train.objects.values()) == len(content["annotations"])
        assert made.recipe["weights"]["binary"] == recipe.weights.binary
        assert made.recipe["seed"] == 0 and made.steps == 4
        assert made.versions["torch"] == torch.__version__ and made.device == "cpu"

    def test_has_the_curve_and_the_metrics(self, made: Made, run: Path) -> None:
        assert [x.step for x in made.curve if x.loss is not None] == [1, 2, 3, 4]
        scored = {x.step: x.AP for x in made.curve if x.AP is not None}
        results = json.loads((run / "results.json").read_text())
        assert list(scored) == [2, 4] and scored[4] == results["AP"] == made.metrics["AP"]
        assert made.metrics["per_class"] == results["per_class"]

    def test_is_the_same_after_a_rerun_elsewhere(
        self, run: Path, recipe: Recipe, tmp_path: Path
    ) -> None:
        again = train(replace(recipe, out=tmp_path / "second"), progress=False).out
        assert (again / STUDENT).read_bytes() == (run / STUDENT).read_bytes()

    def test_holds_no_folder_of_this_machine(self, run: Path, recipe: Recipe) -> None:
        for file in (run / STUDENT, run / "snapshots" / "000002.safetensors", run / CARD):
            content = file.read_bytes()
            for folder in (recipe.out.parent, recipe.data.root.parent, Path.home()):
                assert str(folder).encode() not in content, (file, folder)

    def test_a_snapshot_says_how_far_it_is(self, run: Path) -> None:
        found = load_detector(run / "snapshots" / "000002.safetensors").made
        assert found is not None and found.steps == 2
        assert [x.step for x in found.curve if x.loss is not None] == [1, 2]
        assert [x.step for x in found.curve if x.AP is not None] == [2]

    def test_is_told_in_one_call(self, run: Path, made: Made) -> None:
        assert bckd.load(run, device="cpu").made == made
        told = str(made)
        for words in (
            "GFL on small_resnet",
            "teacher.safetensors (SHA-256 ",
            "24 images",
            "seed 0",
        ):
            assert words in told

    def test_of_earlier_versions_and_later_ones(self, run: Path, tmp_path: Path) -> None:
        tensors, header = read_tensors(run / STUDENT)
        entry = json.loads(header.pop(ENTRY))
        save_tensors(tmp_path / "old.safetensors", tensors, header)
        assert load_detector(tmp_path / "old.safetensors").made is None
        later = {**header, ENTRY: json.dumps({**entry, "weather": "fair"})}
        save_tensors(tmp_path / "new.safetensors", tensors, later)
        assert load_detector(tmp_path / "new.safetensors").made == load_detector(run).made
        garbled = {**header, ENTRY: json.dumps({**entry, "steps": "many"})}
        save_tensors(tmp_path / "bad.safetensors", tensors, garbled)
        with pytest.raises(InputError, match=r"bad\.safetensors: made in its header: steps is"):
            load_detector(tmp_path / "bad.safetensors")


def test_the_command_describes_a_detector(
    run: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(["detectors", str(run)])
    told = capsys.readouterr().out
    for words in ("million parameters", "classes (6): square", "teacher.safetensors", "took"):
        assert words in told
    run_command(["detectors", str(tiny_teacher)])
    assert "its file does not say how it was made (no record)" in capsys.readouterr().out
    for words in (["a", "b"], ["--all"]):
        with pytest.raises(InputError, match="takes one detector and no options"):
            run_command(["detectors", *words])


class TestTheCard:
    def test_says_the_same(self, run: Path, made: Made) -> None:
        card = (run / CARD).read_text()
        front = card.split("---\n")[1]
        assert "pipeline_tag: object-detection" in front and "# license:" in front
        assert made.teacher is not None
        for words in (made.teacher.sha256, made.train.annotations.sha256, "square", "seed"):
            assert words in card
        assert "Intended use\n\nTo be written by" in card
        assert "What these numbers do not say" in card

    def test_its_example_runs(
        self, run: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture = next((recipe.data.root / "val").iterdir())
        monkeypatch.chdir(run)
        code = (run / CARD).read_text().split("```python\n")[1].split("```")[0]
        exec(code.replace("photograph.jpg", str(picture)), {})

    def test_is_renewed_around_what_the_user_wrote(self, recipe: Recipe, tmp_path: Path) -> None:
        out = tmp_path / "run"
        short = replace(recipe, out=out, steps=1, evaluate_every=None)
        train(short, progress=False)
        card = (out / CARD).read_text()
        mine = card.replace("To be written by", "For nuts, written by").replace("seed", "Saat")
        (out / CARD).write_text(f"{mine}\nmy notes\n")
        train(short, resume=True, progress=False)
        renewed = (out / CARD).read_text()
        assert "For nuts, written by" in renewed and renewed.endswith(f"{END}\n\nmy notes\n")
        assert "| seed | 0 |" in renewed and renewed.count(BEGIN) == 1

    @pytest.mark.parametrize("content", [b"my own page\n", b"caf\xe9 " + BEGIN.encode()])
    def test_a_page_of_somebody_else_stays(
        self,
        recipe: Recipe,
        tmp_path: Path,
        content: bytes,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "run"
        out.mkdir()
        (out / CARD).write_bytes(content)
        train(replace(recipe, out=out, steps=1, evaluate_every=None), progress=False)
        assert (out / CARD).read_bytes() == content
        assert "README.md is not bckd's, and stays as it is" in capsys.readouterr().out


def test_a_module_of_ones_own_is_needed_to_load_it(
    recipe: Recipe, tmp_path: Path, tiny_detector: Make
) -> None:
    own = torch.nn.Sequential()
    own.inner = tiny_detector().train()
    own.forward = own.inner.forward  # type: ignore[method-assign]
    plain = replace(recipe, out=tmp_path / "own", steps=1, teacher=None, evaluate_every=None)
    train(plain, student=own, progress=False)
    found = load_module(plain.out, own).made
    assert found is not None and found.own_module and found.detector == "Sequential"
    assert found.teacher is None and str(found)
    assert "load_module" in (plain.out / CARD).read_text()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/disk/me/runs/a.safetensors", "a.safetensors"),
        ("D:\\me\\a.pth", "a.pth"),
        ("../secret/a.pth", "a.pth"),
        ("~/a.pth", "a.pth"),
        ("data/mine", "data/mine"),
        ("/disk/me/losses.py:pearson=1.0", "losses.py:pearson=1.0"),
        (["/x/y"], ["y"]),
        ({"root": "/x/y", "flip": 0.5}, {"root": "y", "flip": 0.5}),
    ],
)
def test_paths_are_cut_to_their_names(value: Any, kept: Any) -> None:
    assert _without_folders(value) == kept


def test_a_long_curve_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point(n, loss=1.0) for n in range(1000)]
    thin = _thinned(points)
    assert len(thin) == origin.POINTS and thin[0] == points[0] and thin[-1] == points[-1]
    assert _thinned(points[:3]) == points[:3]

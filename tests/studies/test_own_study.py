"""A study of one's own: from a file, with terms of one's own, and what it can't be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bckd.commands.main import run as run_command
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import LossWeights, Recipe
from bckd.studies.cells import validation_of
from bckd.studies.runner import StudyOptions, chosen_scales, run_study
from bckd.studies.study import Cell, Method, Study, recipe_of
from bckd.studies.study_check import load_study, prepared
from bckd.system.errors import InputError
from bckd.training.run_log import read_lines
from bckd.zoo.checkpoints import save_detector

TERMS = """
from torch import nn
from bckd.losses.terms import needs

@needs("features")
class Imitation(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        self.adapter = nn.Conv2d(student.features[0].shape[1], teacher.features[0].shape[1], 1)

    def forward(self, student, teacher, assignment, batch):
        pairs = zip(student.features, teacher.features, strict=True)
        return sum((self.adapter(ours) - theirs).square().mean() for ours, theirs in pairs)
"""
STUDY = """
from dataclasses import replace
from pathlib import Path
from bckd.recipes.presets import PRESETS
from bckd.studies.study import Method, Study

here = Path(__file__).parent
scenes = PRESETS["scenes"][1]
model = replace(scenes.model, width=4, channels=8, head_groups=2, head_convs=1)
base = replace(scenes, data=replace(scenes.data, root={root!r}, first_val=2), model=model, steps=1)
base = replace(base, teacher_check=0)  # its weights are random
methods = (
    Method("none"),
    Method("mine", {{"iou": 4.0, "Imitation": 0.5}}, terms=(f"{{here / {terms!r}}}:Imitation",)),
)
study = Study(
    {name!r}, "a title", base, "{teacher}", methods, (0,), scales=(1.0, 2.0), sweep_seeds=(100,)
)
other = replace(study, name="other")
"""


@pytest.fixture
def teacher(tmp_path: Path, tiny_detector: Callable[..., Detector]) -> Path:
    path = tmp_path / "teacher.safetensors"
    save_detector(path, tiny_detector(channels=16), ImageSize(64, 64), {})
    return path


@pytest.fixture
def file(tmp_path: Path, scenes_root: Path, teacher: Path) -> Path:
    """A study and its term in files whose names are this test's alone."""
    terms = tmp_path / f"terms_{tmp_path.name}.py"
    terms.write_text(TERMS, encoding="utf-8")
    path = tmp_path / f"study_{tmp_path.name}.py"
    said = {"root": str(scenes_root), "terms": terms.name, "teacher": teacher, "name": "my-study"}
    path.write_text(STUDY.format(**said), encoding="utf-8")
    return path


def write_sweep(folder: Path) -> None:
    """As if the study had been swept: twice the weights are best."""
    folder.mkdir()
    lines = [
        {"part": "sweep", "method": "mine", "scale": scale, "seed": 100, "AP": scale / 10}
        for scale in (1.0, 2.0)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "my-study.jsonl").write_text(text, encoding="utf-8")


def test_from_the_shell_with_scales_of_another_folder(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path / "sweep")
    options = ["--processes", "1", "--out", str(tmp_path / "runs")]
    command = ["study", str(file), *options, "--scales-from", str(tmp_path / "sweep")]
    assert run_command(command) == 0
    lines = read_lines(tmp_path / "results" / "my-study.jsonl")  # beside the file
    found = {(x["part"], x["method"], x["scale"], x["seed"]) for x in lines}
    assert found == {("comparison", "none", 1.0, 0), ("comparison", "mine", 2.0, 0)}
    mine = next(line for line in lines if line["method"] == "mine")
    (term,) = mine["changes"]["terms"]
    assert term.endswith(":Imitation=1.0") and mine["changes"]["weights.iou"] == 8.0
    log = read_lines(tmp_path / "runs" / "my-study" / "comparison-mine-2-seed0" / "log.jsonl")
    assert {"iou", "Imitation"} < set(log[0]["unweighted"])
    assert "| mine |" in capsys.readouterr().out


class TestFile:
    def test_the_one_called_study_or_the_only_one(self, file: Path) -> None:
        study = load_study(file)
        assert study.name == "my-study"
        text = file.read_text().replace("study = Study(", "first = Study(")
        two = file.with_name(f"two_{file.name}")
        two.write_text(text.replace("replace(study", "replace(first"))
        with pytest.raises(InputError, match=r"two_.* defines 2 studies; expected one .*`study`"):
            load_study(two)
        one = file.with_name(f"one_{file.name}")
        one.write_text(text.partition("other =")[0])
        assert load_study(one) == study

    def test_a_published_name(self, file: Path) -> None:
        named = file.with_name(f"base_{file.name}")
        named.write_text(file.read_text().replace("'my-study'", "'base'"))
        with pytest.raises(InputError, match="a published study is called 'base'; expected anoth"):
            load_study(named)

    def test_no_file_and_no_python(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"^study is '.*none.py', but there is no file"):
            load_study(tmp_path / "none.py")
        path = tmp_path / f"wrong_{tmp_path.name}.py"
        path.write_text("study = (")
        with pytest.raises(InputError, match="which can't be loaded: .*never closed"):
            load_study(path)

    def test_a_name_that_is_neither(self) -> None:
        with pytest.raises(InputError, match="'bsae' is unknown; did you mean base"):
            run_command(["study", "bsae"])


@pytest.fixture
def study(tiny_recipe: Recipe, teacher: Path) -> Study:
    methods = (Method("none"), Method("boxes", {"iou": 4.0}))
    return Study("mine", "a title", tiny_recipe, str(teacher), methods, (0, 1))


class TestRecipes:
    def test_losses_from_labels_weigh_what_the_base_says(self, study: Study) -> None:
        study = replace(study, base=replace(study.base, weights=LossWeights(qfl=3.0, softmax=1.0)))
        weights = recipe_of(study, Cell("comparison", "boxes", 2.0, 0), Path("x")).weights
        assert weights == LossWeights(qfl=3.0, binary=0, iou=8.0, softmax=0)

    def test_without_a_sweep_weights_are_as_they_stand(self, study: Study, tmp_path: Path) -> None:
        assert chosen_scales(study, tmp_path, ["none", "boxes"]) == {"none": 1.0, "boxes": 1.0}

    def test_text_that_names_no_model_is_a_path(self, study: Study, tmp_path: Path) -> None:
        methods = (*study.methods, Method("self", {"iou": 1.0}, teacher="student"))
        found = prepared(replace(study, methods=methods, starts=("runs/x",)), tmp_path)
        assert found.teacher == Path(study.teacher) and found.starts == (Path("runs/x"),)
        assert found.models([method.name for method in methods], [0]) == {"student"}

    def test_images_are_normalised_as_the_student_takes_them(self, study: Study) -> None:
        ours = replace(study.base.model.normalisation, mean=(0.5, 0.5, 0.5))
        assert validation_of(study.base.data, ours).normalisation == ours


def methods_of(*made: Method) -> dict[str, Any]:
    return {"methods": made}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "a/b"}, "name is 'a/b'; expected letters"),
        ({"scales_from": "bsae"}, "scales_from is 'bsae'; expected one of base"),
        (
            {"scales": (0.5, 1.0), "sweep_seeds": (9,), "scales_below": (0.5,)},
            "scales_below is .*; expected falling ones below the smallest of scales",
        ),
        ({"seeds": (1, 1)}, "seeds is .*; expected each once, but has 1 twice"),
        ({"seeds": ()}, "seeds is empty; expected one or more"),
        (methods_of(), "methods is empty; expected one or more"),
        (methods_of(Method("a"), Method("a")), "each once, but has a twice"),
        ({"scales": (1.0,)}, "sweep_seeds is .*; expected some where there are scales"),
        ({"scales_from": "base", "seeds": (100,)}, "seeds is .*; expected none of the sweep"),
        (methods_of(Method("a", {"iuo": 1.0})), "method a: weights has is iuo"),
        (methods_of(Method("a", {"iou": 1.0}, terms=("x.py:t",))), "method a: terms has is t; ex"),
        (methods_of(Method("a", {"iou": 1.0}, {"stpes": 3})), "method a: a recipe has no field 's"),
        (methods_of(Method("a", {"iou": 1.0}, {"steps": 0})), "method a: .*steps is 0; expected"),
        (
            {"scales_from": "base", **methods_of(Method("a", {"iou": 1.0}))},
            "method a: the method that gives its scale is 'a'; expected a method that study base",
        ),
    ],
)
def test_what_a_study_can_not_be(
    study: Study, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    options = StudyOptions(results=tmp_path / "results", out=tmp_path / "runs")
    with pytest.raises(InputError, match=f"^study .*{sentence}"):
        run_study(replace(study, **changes), options)
    assert not options.results.exists() and not options.out.exists()

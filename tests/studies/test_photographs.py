"""The studies on photographs: what a regime declares, and several studies under one name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bckd.commands.main import run
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.datasets.formats.voc2007 import CLASSES
from bckd.models.detector import Detector, DetectorConfig
from bckd.studies import photographs, runner
from bckd.studies.catalogue import GRIDS
from bckd.studies.methods import methods
from bckd.studies.options import StudyOptions
from bckd.studies.study import Cell, Study, recipe_of
from bckd.system.errors import InputError
from bckd.training.run_log import read_lines
from bckd.zoo.nanodet import REG_MAX, STRIDES

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"


@pytest.mark.parametrize("name", [name for name in photographs.MODELS_OF if name != "resnet18"])
def test_students_speak_of_the_teachers_locations(name: photographs.Student) -> None:
    model = photographs.MODELS_OF[name]
    assert (model.strides, model.reg_max) == (STRIDES, REG_MAX)
    size = sum(x.numel() for x in Detector(_scratch(model), COCO_CLASSES[:20]).parameters())
    assert size < 3_000_000


def _scratch(model: DetectorConfig) -> DetectorConfig:
    return replace(model, pretrained=False, frozen_stages=0)


def test_classes_are_the_data_sets() -> None:
    assert len(CLASSES) == photographs.CLASSES
    assert methods(photographs.CLASSES)["softmax"].weights == {"softmax": 2.5}


def test_a_tenth_has_labels() -> None:
    data = photographs.recipe("mobilenet", labels="tenth").data
    assert data.first_train == 280
    assert photographs.recipe("mobilenet").data.first_train is None


@pytest.mark.parametrize("name", GRIDS)
def test_every_study_of_a_grid_has_all_methods_and_its_own_place(name: str) -> None:
    grid = GRIDS[name]
    assert len({study.name for study in grid}) == len(grid)
    for study in grid:
        assert [method.name for method in study.methods] == [*photographs.METHODS]
        taught = recipe_of(study, Cell("comparison", "BCKD", 1.0, 0), Path("runs"))
        assert taught.teacher == photographs.TEACHER
        assert taught.device == ("cuda" if name.endswith("gpu") else "cpu")


def test_a_grid_is_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each study in turn, with the options given, and its tables under its name."""
    asked: list[tuple[str, str | None]] = []

    def run_study(study: Study, options: StudyOptions) -> list[dict[str, object]]:
        asked.append((study.name, options.device))
        return read_lines(RESULTS / "steps-300.jsonl")

    monkeypatch.setattr(runner, "run_study", run_study)
    run(["study", "photographs-gpu", "--device", "cuda:1"])
    names = [study.name for study in GRIDS["photographs-gpu"]]
    assert asked == [(name, "cuda:1") for name in names]
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in names)
    with pytest.raises(InputError, match="--extra takes the lines of one study"):
        run(["study", "photographs-gpu", "--extra", "mine.jsonl"])

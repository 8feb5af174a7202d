"""Swaps measured on the students of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes.presets import PRESETS
from bckd.studies.methods import methods
from bckd.studies.study import Cell, Study
from bckd.studies.swapping import measure_swaps
from bckd.zoo.checkpoints import save_detector


@pytest.fixture
def study(tmp_path: Path, scenes_root: Path, tiny_detector: Callable[..., Detector]) -> Study:
    teacher = tmp_path / "teacher.safetensors"
    save_detector(teacher, tiny_detector(width=8, channels=16), ImageSize(128, 128), {})
    base = PRESETS["scenes"][1]
    base = replace(base, steps=1, data=replace(base.data, root=scenes_root, first_val=4))
    return Study("tiny", "a title", base, teacher, (methods(6)["BCKD"],), seeds=(0,))


def test_a_line_a_student(study: Study, tmp_path: Path) -> None:
    cell = Cell("comparison", "BCKD", 1.0, 0)
    line = measure_swaps(study, cell, tmp_path)  # there is no student yet: it is trained
    assert (line["study"], line["method"], line["scale"], line["seed"]) == ("tiny", "BCKD", 1.0, 0)
    assert set(line["swapped"]) == {"level", "pattern", "boxes"}
    assert set(line["recentred"]) == {"score_error", "AP", "AP, threshold moved"}
    assert line["recentred"]["AP, threshold moved"] == pytest.approx(line["AP"], abs=1e-9)
    assert 0 < line["recentred"]["score_error"] < 1
    assert measure_swaps(study, cell, tmp_path) == line


def test_a_teacher_of_more_classes_speaks_of_the_students(
    study: Study, tmp_path: Path, tiny_detector: Callable[..., Detector]
) -> None:
    names = tiny_detector().class_names
    path = tmp_path / "more.safetensors"
    more = tiny_detector(("something else", *reversed(names)), width=8, channels=16)
    save_detector(path, more, ImageSize(128, 128), {})
    line = measure_swaps(replace(study, teacher=path), Cell("comparison", "BCKD", 1.0, 0), tmp_path)
    assert set(line["swapped"]) == {"level", "pattern", "boxes"}

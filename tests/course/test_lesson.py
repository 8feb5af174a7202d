"""The set-up of a notebook in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from bckd.course import lesson
from bckd.course.lesson import drawn, scenes

WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights"


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with the weights and the first notebook's name, worked in."""
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "notebooks" / "00_quickstart.ipynb").touch()
    shutil.copytree(WEIGHTS, tmp_path / "data" / "weights")
    monkeypatch.setattr(lesson, "SCENES", {"train": 1, "val": 3, "seed": 7})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scenes_teacher_and_students(repository: Path) -> None:
    found = scenes("notebooks/solutions")
    assert Path.cwd() == repository / "notebooks" / "solutions"
    assert found.root == Path("../../data/scenes-quickstart")
    assert len(found.images) == 3
    assert found.recipe.teacher == found.weights / "scenes_teacher.safetensors"
    batch = found.batch(2)
    assert torch.equal(batch.images, found.batch([0, 1]).images)
    assert list(found.students) == ["none", "softmax", "BCKD"]
    said = found.say("students/bckd", batch, leaves=("cls_logits", "boxes"))
    with torch.no_grad():
        assert torch.equal(said.cls_logits, found.students["BCKD"](batch.images).cls_logits)
    assert said.cls_logits.is_leaf and said.cls_logits.requires_grad and said.boxes.requires_grad
    assert found.teacher.class_names == found.images.annotations.class_names


def test_no_other_working_folder(repository: Path) -> None:
    found = drawn(repository / "data")
    assert Path.cwd() == repository
    assert found.root == repository / "data" / "scenes-quickstart" and len(found.images) == 3

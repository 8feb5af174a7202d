"""Runs that go on from trained weights, or take over parts of the teacher."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.models.postprocess import PostProcess
from bckd.recipes import Recipe
from bckd.training.student import build_student
from bckd.zoo.checkpoints import load_detector, save_detector
from tests.training.runs import (
    NAMES,
    refusal,
    run,
    step_lines,
    weights_of,
)


class TestStart:
    def test_the_student_goes_on_from_there(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        first = run(tiny_recipe)
        recipe = replace(tiny_recipe, start=tiny_recipe.out, out=tmp_path / "second")
        student = build_student(recipe, first.detector.class_names)
        for name, value in student.state_dict().items():
            assert torch.equal(value, weights_of(tiny_recipe.out)[name]), name
        assert all(parameter.requires_grad for parameter in student.parameters())
        losses = [step_lines(r.out)[0]["loss"] for r in (tiny_recipe, run(recipe))]
        assert losses[1] < losses[0]

    def test_of_another_post_processing(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        """The student's is the recipe's, as in a run that is resumed."""
        path = tmp_path / "other.safetensors"
        few = tiny_detector(postprocess=PostProcess(max_detections=3))
        save_detector(path, few, ImageSize(64, 64), {})
        student = build_student(replace(tiny_recipe, start=path), NAMES)
        assert student.settings == student.config.postprocess
        assert student.settings.max_detections == 100

    def test_of_another_width(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(channels=24, head_groups=4), ImageSize(64, 64), {})
        message = refusal(replace(tiny_recipe, start=path))
        assert str(path) in message and "model.channels 24" in message

    @pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "atss"])
    def test_classes_go_by_name(
        self,
        tiny_recipe: Recipe,
        tmp_path: Path,
        tiny_detector: Callable[..., Detector],
        head: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Here in another order, and with one class more."""
        theirs = (NAMES[2], "lorry", *NAMES[3:], *NAMES[:2])
        detector = tiny_detector(theirs, head=head)
        save_detector(tmp_path / "s.safetensors", detector, ImageSize(64, 64), {})
        model = replace(tiny_recipe.model, head=head)
        recipe = replace(tiny_recipe, model=model, start=tmp_path / "s.safetensors")
        student = build_student(recipe, NAMES).eval()
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            ours, found = student(images), detector(images)
        columns = [theirs.index(name) for name in NAMES]
        torch.testing.assert_close(ours.cls_logits, found.cls_logits[..., columns])
        assert torch.equal(ours.boxes, found.boxes) and student.class_names == NAMES
        assert all(parameter.requires_grad for parameter in student.parameters())
        told = "1 of its classes are not in the data set and left out: lorry"
        assert told in capsys.readouterr().out

    def test_of_other_classes(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(NAMES[:4]), ImageSize(64, 64), {})
        message = refusal(replace(tiny_recipe, start=path))
        assert f"{path} has no class {NAMES[4]}, {NAMES[5]}; it has {NAMES[0]}" in message

    @pytest.mark.parametrize("head", ["gfl", "retinanet"])
    def test_a_class_without_a_box_may_be_lacking(
        self,
        tiny_recipe: Recipe,
        tmp_path: Path,
        tiny_detector: Callable[..., Detector],
        head: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """It starts as that of a student from scratch; the others go on."""
        path = tmp_path / "s.safetensors"
        start = tiny_detector(NAMES[1:], seed=3, head=head)
        save_detector(path, start, ImageSize(64, 64), {})
        recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, head=head))
        scratch = build_student(recipe, NAMES)
        recipe = replace(recipe, start=path)
        student = build_student(recipe, NAMES, dispensable=frozenset(NAMES[:1]))
        told = "lacks 1 of the classes, of which there is no box to learn from: " + NAMES[0]
        assert told in capsys.readouterr().out
        found, new, theirs = (x.head.cls.bias for x in (student, scratch, start))
        assert torch.equal(found.reshape(-1, len(NAMES))[:, 0], new.reshape(-1, len(NAMES))[:, 0])
        assert torch.equal(found.reshape(-1, len(NAMES))[:, 1:], theirs.reshape(-1, len(NAMES) - 1))
        rows = student.head.cls.weight.unflatten(0, (-1, len(NAMES)))[:, 0]
        assert torch.equal(rows, scratch.head.cls.weight.unflatten(0, (-1, len(NAMES)))[:, 0])

    def test_a_run_whose_data_have_an_empty_class(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        data = tiny_recipe.data
        root = tmp_path / "data"
        shutil.copytree(data.root, root)
        for name in (data.train_annotations, data.val_annotations):
            content = json.loads((root / name).read_text())
            content["categories"].append({"id": 99, "name": "trays"})
            (root / name).write_text(json.dumps(content))
        path = tmp_path / "s.safetensors"
        save_detector(path, tiny_detector(), ImageSize(64, 64), {})
        recipe = replace(tiny_recipe, data=replace(data, root=root), start=path, steps=1)
        assert run(recipe).detector.class_names == (*NAMES, "trays")


class TestInherit:
    """A student starts with the neck and the head of its teacher."""

    @pytest.fixture
    def inheriting(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> Recipe:
        """From a teacher whose classes are in another order, and one of them by another name."""
        path = tmp_path / "teacher.safetensors"
        names = ("lorry", *NAMES[:0:-1])
        save_detector(path, tiny_detector(names, seed=3), ImageSize(64, 64), {})
        renamed = (f"{NAMES[0]}=lorry",)
        return replace(tiny_recipe, teacher=path, teacher_classes=renamed, inherit=True)

    def test_neck_and_head_are_the_teachers(self, inheriting: Recipe) -> None:
        student = build_student(inheriting, NAMES).eval()
        teacher = load_detector(inheriting.teacher).detector
        for name, value in student.neck.state_dict().items():
            assert torch.equal(value, teacher.neck.state_dict()[name])
        maps = [torch.randn(1, 8, 64 // stride, 64 // stride) for stride in (8, 16, 32)]
        ours, theirs = student.head(maps), teacher.head(maps)
        order = [0, *range(len(NAMES) - 1, 0, -1)]
        torch.testing.assert_close(ours.cls_logits, theirs.cls_logits[..., order])
        assert torch.equal(ours.boxes, theirs.boxes)
        scratch = build_student(replace(inheriting, inherit=False), NAMES)
        for name, value in scratch.backbone.state_dict().items():
            assert torch.equal(value, student.backbone.state_dict()[name])
        assert all(parameter.requires_grad for parameter in student.parameters())
        run(replace(inheriting, steps=1))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"head": "atss"}, "has model.head gfl, the student atss; they must be equal for"),
            ({"channels": 16}, "has model.channels 8, the student 16"),
            ({"anchor_scale": 4.0}, "has model.anchor_scale 3.0, the student 4.0"),
            ({"reg_max": 6}, r"has head.box.weight \(36, 8, 3, 3\), the student \(28, 8"),
            ({"width": 8}, r"has neck.*weight \(8, .*, 1, 1\), the student \(8, "),
        ],
    )
    def test_of_other_shapes(self, inheriting: Recipe, change: dict, words: str) -> None:
        recipe = replace(inheriting, model=replace(inheriting.model, **change))
        assert re.search(words, refusal(recipe))

    @pytest.mark.parametrize("change", [{"teacher": None, "teacher_classes": ()}, {"start": "x"}])
    def test_of_nobody_or_of_two(self, inheriting: Recipe, change: dict) -> None:
        assert "inherit is true; expected false, but for" in refusal(replace(inheriting, **change))

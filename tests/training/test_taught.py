"""A run with a teacher."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.teachers.targets import TeacherTargets, live_teaching
from bckd.training.data import training_data
from bckd.training.student import build_student
from bckd.training.teacher import load_teacher
from bckd.training.terms import compute_terms
from bckd.zoo.checkpoints import save_detector
from tests.training.runs import (
    ALL_WEIGHTS,
    NAMES,
    first_batch,
    refusal,
    run,
    step_lines,
    weights_of,
)


class TestTeacher:
    def test_it_stays_as_it_is(self, distilling: Recipe) -> None:
        batch, names = first_batch(distilling)
        teacher = load_teacher(distilling, names, torch.device("cpu")).detector
        before = copy.deepcopy(teacher.state_dict())
        student = build_student(distilling, names).train()
        recipe = replace(distilling, weights=ALL_WEIGHTS)
        teaching = live_teaching(teacher)
        terms = compute_terms(student, teaching, batch, recipe, ALL_WEIGHTS).values
        sum(terms.values()).backward()
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
        assert not any(module.training for module in teacher.modules())
        for name, value in teacher.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(p.grad is not None and p.grad.any() for p in student.parameters())

    def test_it_is_no_part_of_what_is_saved(self, distilling: Recipe) -> None:
        run(distilling)
        run(replace(distilling, teacher=None, out=distilling.out / "alone"))
        one, alone = weights_of(distilling.out), weights_of(distilling.out / "alone")
        assert {n: v.shape for n, v in one.items()} == {n: v.shape for n, v in alone.items()}
        resume = load_file(distilling.out / "resume.safetensors")
        assert {n for n in resume if n.startswith("model/")} == {f"model/{n}" for n in one}

    def test_stored_answers_teach_as_live_ones_do(self, distilling: Recipe) -> None:
        batch, names = first_batch(distilling)
        teacher = load_teacher(distilling, names, torch.device("cpu")).detector
        stored = TeacherTargets(teacher, training_data(distilling.data, 0), progress=False)
        recipe = replace(distilling, weights=ALL_WEIGHTS)

        def student() -> Detector:
            return build_student(recipe, names).train()

        found = [
            compute_terms(student(), teaching, batch, recipe, ALL_WEIGHTS).values
            for teaching in (live_teaching(teacher), stored)
        ]
        for name, value in found[0].items():
            torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-5, msg=name)

    def test_a_run_with_stored_answers_is_one_with_live_ones(self, distilling: Recipe) -> None:
        live = replace(
            distilling, data=replace(distilling.data, cache=False), out=distilling.out / "live"
        )
        for recipe in (distilling, live):
            run(replace(recipe, steps=2))
        lines = [step_lines(recipe.out) for recipe in (distilling, live)]
        for stored, ours in zip(*lines, strict=True):
            assert stored["unweighted"] == pytest.approx(ours["unweighted"], rel=1e-3, abs=1e-5)

    @pytest.mark.parametrize(
        ("change", "missing"),
        [
            (lambda names: names[:4], NAMES[4:]),
            (lambda names: (*names[:5], "hexagon"), NAMES[5:]),
        ],
    )
    def test_without_some_of_the_classes(
        self,
        tiny_recipe: Recipe,
        tmp_path: Path,
        tiny_detector: Callable[..., Detector],
        change: Callable[[tuple[str, ...]], tuple[str, ...]],
        missing: tuple[str, ...],
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(change(NAMES)), ImageSize(64, 64), {})
        message = refusal(replace(tiny_recipe, teacher=path))
        assert str(path) in message and f"has no class {', '.join(missing)}" in message

    def test_without_a_class_that_has_no_box(self, distilling: Recipe, tmp_path: Path) -> None:
        data, path = distilling.data, tmp_path / "with_root.json"
        content = json.loads((data.root / data.train_annotations).read_text())
        content["categories"].insert(0, {"id": 99, "name": "shapes"})
        path.write_text(json.dumps(content))
        recipe = replace(distilling, data=replace(data, train_annotations=str(path)), steps=2)
        result = run(replace(recipe, out=tmp_path / "rooted"))
        assert set(result.detector.class_names) == {"shapes", *NAMES}
        assert all(line["unweighted"]["binary"] > 0 for line in step_lines(tmp_path / "rooted"))

    @pytest.mark.parametrize("pair", ["ball", "ball=", "=disc", "ball=disc=ring"])
    def test_a_class_renamed_by_something_else(self, distilling: Recipe, pair: str) -> None:
        message = refusal(replace(distilling, teacher_classes=(pair,)))
        assert "teacher_classes" in message and "ball" in message or "=disc" in message

    def test_with_more_classes_and_levels_under_other_names(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        names = ("sky", *NAMES[:0:-1], "first")
        teacher = tiny_detector(names, head="fcos", strides=(8, 16, 32, 64))
        save_detector(path, teacher, ImageSize(64, 64), {})
        renamed = (f"{NAMES[0]}=first",)
        recipe = replace(tiny_recipe, teacher=path, teacher_classes=renamed, steps=2)
        run(recipe)
        terms = step_lines(recipe.out)[-1]["unweighted"]
        assert terms["binary"] > 0 and terms["iou"] > 0

    def test_without_some_of_the_strides(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(), ImageSize(64, 64), {})
        model = replace(tiny_recipe.model, strides=(8, 16, 32, 64))
        message = refusal(replace(tiny_recipe, teacher=path, model=model))
        assert str(path) in message and "has strides 8, 16, 32 and the student" in message

    def test_of_another_family_where_bins_are_distilled(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(head="atss"), ImageSize(64, 64), {})
        weights = replace(tiny_recipe.weights, ld=1.0)
        message = refusal(replace(tiny_recipe, teacher=path, weights=weights))
        assert "box distributions of both detectors; the teacher has none" in message

    def test_of_other_bins_where_bins_are_distilled(
        self, tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        path = tmp_path / "other.safetensors"
        save_detector(path, tiny_detector(reg_max=12), ImageSize(64, 64), {})
        recipe = replace(tiny_recipe, teacher=path)
        run(replace(recipe, steps=1, out=tmp_path / "boxes need no bins"))
        message = refusal(replace(recipe, weights=replace(recipe.weights, ld=1.0)))
        assert "the student has 8, the teacher 12" in message

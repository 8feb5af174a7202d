"""Training a student, with and without a teacher."""

from __future__ import annotations

import copy
import json
import re
import shutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import collate
from bckd.datasets.scene_drawing import class_names
from bckd.evaluation.average_precision import evaluate
from bckd.image_size import ImageSize
from bckd.losses.terms import TERMS
from bckd.models.detector import Detector
from bckd.models.heads import HEADS
from bckd.models.postprocess import PostProcess
from bckd.normalisation import Normalisation
from bckd.recipes import EvaluationConfig, LossWeights, Optimisation, Recipe
from bckd.structures import Batch
from bckd.system.errors import InputError, NonFiniteLossError
from bckd.system.files import one_writer
from bckd.teachers.targets import TeacherTargets, live_teaching
from bckd.training import checks, preparing
from bckd.training import run as running
from bckd.training.data import training_data, validation_data
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.teacher import load_teacher
from bckd.training.terms import compute_terms
from bckd.training.trainer import RunResult, train
from bckd.zoo.checkpoints import load_detector, save_detector
from bckd.zoo.unfinished import STATE, STUDENT

NAMES = class_names("standard")
SUPERVISED = {"qfl", "dfl", "giou"}
ALL_WEIGHTS = LossWeights(softmax=0.75, ld=0.5, ld_region=0.25)
# Terms that these weights compute of a GFL student: its own, and what is distilled.
ALL_TERMS = {*HEADS["gfl"].terms, *(name for name in TERMS if getattr(ALL_WEIGHTS, name))}
PLAIN_SGD = Optimisation(
    optimizer="sgd", learning_rate=0.4, momentum=0, weight_decay=0, warmup_steps=0
)
PLAIN_RATE = 0.4 * 4 / 16  # at a batch of 4


def run(recipe: Recipe) -> RunResult:
    return train(recipe, progress=False)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / STUDENT)


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights_of(one), weights_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def step_lines(out: Path) -> list[dict]:
    return [line for line in read_log(out) if "unweighted" in line]


def first_batch(recipe: Recipe) -> tuple[Batch, tuple[str, ...]]:
    training = training_data(recipe.data, recipe.seed)
    keys = [(0, False), (1, True), (2, True)]
    batch = collate([training.sample(*key) for key in keys], training.size)
    return batch, training.annotations.class_names


@pytest.fixture
def distilling(tiny_recipe: Recipe, tiny_teacher: Path) -> Recipe:
    return replace(tiny_recipe, teacher=tiny_teacher)


class TestLearning:
    def test_the_loss_falls_on_a_few_images(self, tiny_recipe: Recipe) -> None:
        data = replace(tiny_recipe.data, first_train=4, flip=0)
        run(replace(tiny_recipe, data=data, steps=25))
        losses = [line["loss"] for line in step_lines(tiny_recipe.out)]
        assert len(losses) == 25
        assert statistics.mean(losses[-5:]) < 0.7 * statistics.mean(losses[:5])

    def test_the_student_nears_its_teacher(self, distilling: Recipe) -> None:
        weights = LossWeights(qfl=0, dfl=0, giou=0)
        data = replace(distilling.data, first_train=4, flip=0)
        run(replace(distilling, weights=weights, data=data, steps=25))
        terms = [line["unweighted"] for line in step_lines(distilling.out)]
        for name in ("binary", "iou"):
            first, last = (statistics.mean(t[name] for t in p) for p in (terms[:5], terms[-5:]))
            assert last < 0.8 * first, name

    def test_a_step_of_sgd_goes_down_the_gradient(self, tiny_recipe: Recipe) -> None:
        before, after = one_step(tiny_recipe, clip_norm=None)
        training = training_data(tiny_recipe.data, tiny_recipe.seed)
        (keys,) = TrainingBatches(training.images, 4, tiny_recipe.seed, 0, 1)
        batch = collate([training[key] for key in keys], training.size)
        weights = tiny_recipe.weights
        terms = compute_terms(before.train(), None, batch, tiny_recipe, weights).values
        (terms["qfl"] + 0.25 * terms["dfl"] + 2 * terms["giou"]).backward()
        for (name, old), (_, new) in parameter_pairs(before, after):
            expected = old.detach() - PLAIN_RATE * old.grad
            torch.testing.assert_close(new.detach(), expected, msg=name)

    @pytest.mark.parametrize("precision", ["float32", "fp16"])
    def test_the_gradient_is_clipped(self, tiny_recipe: Recipe, precision: str) -> None:
        """Without momentum and decay a step is as long as rate times norm of the gradient.

        The gradient itself, not that of a loss scaled for fp16.
        """
        before, after = one_step(replace(tiny_recipe, precision=precision), clip_norm=0.01)
        moved = [(b - a).norm() for (_, b), (_, a) in parameter_pairs(before, after)]
        assert torch.stack(moved).norm().item() == pytest.approx(PLAIN_RATE * 0.01, rel=1e-3)

    def test_bf16_on_a_cpu(self, tiny_recipe: Recipe) -> None:
        run(replace(tiny_recipe, precision="bf16", steps=2))
        first = step_lines(tiny_recipe.out)[0]["loss"]
        run(replace(tiny_recipe, steps=2, out=tiny_recipe.out / "float32"))
        exact = step_lines(tiny_recipe.out / "float32")[0]["loss"]
        assert first != exact
        assert first == pytest.approx(exact, rel=0.05)


def one_step(recipe: Recipe, clip_norm: float | None) -> tuple[Detector, Detector]:
    recipe = replace(recipe, steps=1, optimisation=replace(PLAIN_SGD, clip_norm=clip_norm))
    after = run(recipe).detector
    return build_student(recipe, after.class_names), after


def parameter_pairs(before: Detector, after: Detector) -> list:
    return list(zip(before.named_parameters(), after.named_parameters(), strict=True))


class TestData:
    """What the student sees: the recipe's images as the recipe says, in training as after it."""

    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
        """The batches of every step."""
        batches: list[Batch] = []
        compute = running.compute_terms

        def recorded(student: Detector, teaching: object, batch: Batch, *more: object) -> object:
            batches.append(batch)
            return compute(student, teaching, batch, *more)

        monkeypatch.setattr(running, "compute_terms", recorded)
        return batches

    def custom(self, recipe: Recipe, root: Path, **data: object) -> Recipe:
        return replace(recipe, data=replace(recipe.data, root=root, **data), steps=12)

    @pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 9, 39), (1.0, 48, 48)])
    def test_images_are_flipped_as_often_as_the_recipe_says(
        self, tiny_recipe: Recipe, seen: list[Batch], flip: float, low: int, high: int
    ) -> None:
        data = replace(tiny_recipe.data, flip=flip)
        run(replace(tiny_recipe, data=data, steps=12))
        assert low <= sum(sum(batch.flipped) for batch in seen) <= high

    def test_the_order_is_shuffled_anew_each_epoch(
        self, tiny_recipe: Recipe, seen: list[Batch]
    ) -> None:
        run(replace(tiny_recipe, steps=12))
        epochs = [sum((b.indices for b in seen[n : n + 6]), ()) for n in (0, 6)]
        assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
        assert epochs[0] != epochs[1]
        assert all(list(epoch) != sorted(epoch) for epoch in epochs)

    def test_images_without_a_box_are_left_out(
        self, tiny_recipe: Recipe, custom_root: Path, seen: list[Batch]
    ) -> None:
        run(self.custom(tiny_recipe, custom_root))
        names = {name for batch in seen for name in batch.file_names}
        assert names == {"wide.png", "tall.png", "crowd.png", "flat.png"}

    def test_images_are_normalised_as_the_model_says(
        self, tiny_recipe: Recipe, custom_root: Path, seen: list[Batch]
    ) -> None:
        normalisation = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), bgr=True)
        model = replace(tiny_recipe.model, normalisation=normalisation)
        size = ImageSize(short_side=64, long_side=96)  # leaves wide.png as it is
        recipe = self.custom(tiny_recipe, custom_root, size=size, flip=0.0)
        run(replace(recipe, model=model))
        found = next(b for b in seen if "wide.png" in b.file_names)
        image = found.images[found.file_names.index("wide.png"), :, :64, :96]
        pixels = np.array(Image.open(custom_root / "train" / "wide.png")) / 255
        expected = (pixels[..., ::-1] - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        torch.testing.assert_close(image.permute(1, 2, 0), torch.tensor(expected).float())

    def test_groups_are_the_recipes(
        self, tiny_recipe: Recipe, mixed_root: Path, seen: list[Batch]
    ) -> None:
        """Of two images each: on a canvas of their own, all wide or all tall."""
        size = ImageSize(short_side=48, long_side=96)
        recipe = self.custom(tiny_recipe, mixed_root, val_images="train", size=size)
        run(replace(recipe, images_per_group=2))
        mixed = 0
        for batch in seen:
            pairs = [slice(0, 2), slice(2, 4)]
            for pair in pairs:
                height, width = batch.padded_sizes[pair].amax(dim=0).tolist()
                assert set(batch.canvases[pair]) == {(height, width)}
                sizes = batch.original_sizes[pair]
                assert len(set((sizes[:, 1] > sizes[:, 0]).tolist())) == 1
            mixed += len(set(batch.canvases)) > 1
        assert mixed > 2

    def test_two_canvases_are_padding_alone(
        self, tiny_recipe: Recipe, mixed_root: Path, seen: list[Batch]
    ) -> None:
        """The losses are those of the same images, padded further by hand."""
        size = ImageSize(short_side=48, long_side=160)
        recipe = self.custom(
            tiny_recipe, mixed_root, val_images="train", size=size, two_canvases=True, flip=0.0
        )
        recipe = replace(recipe, images_per_group=2)
        run(recipe)
        assert {tuple(batch.pixels.shape[2:]) for batch in seen} == {(64, 160), (160, 64)}
        assert all(set(b.canvases) == {tuple(b.pixels.shape[2:])} for b in seen)
        training = training_data(recipe.data, recipe.seed)
        first = seen[0]
        plain = collate([training.sample(n, False) for n in first.indices], size)
        missing = [a - b for a, b in zip(first.pixels.shape, plain.pixels.shape, strict=True)]
        pixels = F.pad(plain.pixels, (0, missing[3], 0, missing[2]))
        by_hand = replace(plain, pixels=pixels, canvases=first.canvases)
        assert any(missing), "there is something to pad"
        detector = Detector(recipe.model, training.annotations.class_names)
        ours, theirs = (
            compute_terms(detector, None, batch, recipe, recipe.weights).values
            for batch in (first, by_hand)
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_it_is_evaluated_on_the_validation_images(
        self, tiny_recipe: Recipe, custom_root: Path
    ) -> None:
        result = run(self.custom(tiny_recipe, custom_root, val_images="val"))
        expected, _ = evaluate(
            result.detector,
            validation_data(replace(tiny_recipe.data, root=custom_root)),
            1,
            progress=False,
        )
        assert repr(result.metrics) == repr(expected)


class TestLog:
    def test_terms_are_logged_plain_and_weighted(self, distilling: Recipe) -> None:
        run(replace(distilling, weights=ALL_WEIGHTS, steps=2))
        weights = {name: x for name, x in asdict(ALL_WEIGHTS).items() if name in ALL_TERMS}
        for line in step_lines(distilling.out):
            assert set(line["unweighted"]) == set(line["weighted"]) == set(weights)
            for name, value in line["unweighted"].items():
                assert value > 0
                assert line["weighted"][name] == pytest.approx(weights[name] * value)
            assert line["loss"] == pytest.approx(sum(line["weighted"].values()))
            assert line["images_per_second"] > 0 and line["learning_rate"] > 0
            assert 0 < line["data_wait"] < 1
            assert line["memory"] > 1e6 and line["seconds_left"] >= 0

    @pytest.mark.parametrize("absent", ["binary", "iou", "softmax", "ld", "ld_region"])
    def test_a_term_of_weight_0_is_not_computed(self, distilling: Recipe, absent: str) -> None:
        weights = replace(ALL_WEIGHTS, **{absent: 0})
        run(replace(distilling, weights=weights, steps=1))
        (line,) = step_lines(distilling.out)
        assert set(line["unweighted"]) == ALL_TERMS - {absent}

    def test_without_a_teacher_nothing_is_distilled(self, tiny_recipe: Recipe) -> None:
        run(replace(tiny_recipe, weights=ALL_WEIGHTS, steps=1))
        assert set(step_lines(tiny_recipe.out)[0]["unweighted"]) == SUPERVISED

    def test_a_line_is_the_mean_since_the_last(self, tiny_recipe: Recipe) -> None:
        run(tiny_recipe)
        sparse = replace(tiny_recipe, log_every=4, out=tiny_recipe.out / "sparse")
        run(sparse)
        every = [line["unweighted"]["qfl"] for line in step_lines(tiny_recipe.out)]
        lines = step_lines(sparse.out)
        assert [line["step"] for line in lines] == [3, 5]
        for line, part in zip(lines, (every[:4], every[4:]), strict=True):
            assert line["unweighted"]["qfl"] == pytest.approx(statistics.mean(part))


class TestFiles:
    def test_what_a_run_leaves(self, tiny_recipe: Recipe) -> None:
        result = run(tiny_recipe)
        names = {path.name for path in tiny_recipe.out.iterdir()}
        assert names == {
            "README.md",
            "student.safetensors",
            "resume.safetensors",
            "resume.previous.safetensors",
            "results.json",
            "recipe.json",
            "log.jsonl",
            "tensorboard",
            "report.html",
            "view.json",
        }
        results = json.loads((tiny_recipe.out / "results.json").read_text())
        assert results["AP"] == result.metrics.AP
        assert set(results["per_class"]) == set(result.detector.class_names)
        assert (results["seed"], results["steps"]) == (0, 6)
        checkpoint = load_detector(tiny_recipe.out)
        assert checkpoint.size == tiny_recipe.data.size
        assert not result.detector.training

    def test_tensorboard(self, tiny_recipe: Recipe) -> None:
        run(replace(tiny_recipe, steps=2))
        board = EventAccumulator(str(tiny_recipe.out / "tensorboard")).Reload()
        tags = set(board.Tags()["scalars"])
        assert {"loss", "unweighted/qfl", "weighted/giou", "learning_rate", "metrics/AP"} <= tags
        logged = [line["loss"] for line in step_lines(tiny_recipe.out)]
        assert [event.value for event in board.Scalars("loss")] == pytest.approx(logged)

    def test_a_run_is_not_overwritten(self, tiny_recipe: Recipe) -> None:
        run(replace(tiny_recipe, steps=1))
        before = {p: p.read_bytes() for p in tiny_recipe.out.rglob("*") if p.is_file()}
        with pytest.raises(InputError, match="already holds a run") as caught:
            run(replace(tiny_recipe, steps=1, seed=1))
        assert str(tiny_recipe.out) in str(caught.value)
        assert before == {p: p.read_bytes() for p in tiny_recipe.out.rglob("*") if p.is_file()}

    def test_a_folder_has_one_writer(self, tiny_recipe: Recipe) -> None:
        with one_writer(tiny_recipe.out):
            with pytest.raises(InputError, match=f"{tiny_recipe.out} is in use"):
                run(tiny_recipe)
        assert not tiny_recipe.out.exists()
        run(replace(tiny_recipe, steps=1))
        assert not [path for path in tiny_recipe.out.iterdir() if path.name.startswith(".")]

    def test_the_parts_of_a_data_set_must_agree(
        self, tiny_recipe: Recipe, custom_root: Path
    ) -> None:
        path = custom_root / "annotations" / "instances_val.json"
        path.write_text(path.read_text().replace("washer", "ring"))
        with pytest.raises(InputError, match=r"has boxes of 'ring' \(id 7\)") as caught:
            run(replace(tiny_recipe, data=replace(tiny_recipe.data, root=custom_root)))
        assert "instances_train.json" in str(caught.value) and str(path) in str(caught.value)
        assert not tiny_recipe.out.exists()


def test_the_network_is_in_channels_last_memory(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout in which convolutions are fastest, of the student and of a live teacher."""
    seen = []
    compute = running.compute_terms

    def recorded(student: Detector, *more: object) -> object:
        seen.append(student.backbone.stages[0].conv1[0].weight)
        return compute(student, *more)

    monkeypatch.setattr(running, "compute_terms", recorded)
    run(replace(tiny_recipe, steps=1))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


def test_evaluation_takes_batches_of_the_images_of_a_process(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits a card in training fits it then."""
    sizes = []

    def recorded(*given: Any, **named: Any) -> object:
        sizes.append(given[2])
        return evaluate(*given, **named)

    monkeypatch.setattr(running, "evaluate", recorded)
    run(replace(tiny_recipe, evaluate_every=3))
    assert sizes == [4, 4]
    monkeypatch.setattr(checks, "process_count", lambda: 2)
    assert checks.own_share(tiny_recipe) == 2


def test_evaluation_goes_by_settings_of_its_own(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def recorded(*given: Any, **named: Any) -> object:
        seen.append((given[2], named))
        return evaluate(*given, **named)

    monkeypatch.setattr(running, "evaluate", recorded)
    settings = EvaluationConfig(batch_size=3, precision="bf16", scorer="pycocotools")
    run(replace(tiny_recipe, out=tmp_path / "own", evaluation=settings))
    assert seen == [(3, {"precision": "bf16", "scorer": "pycocotools"})]
    run(replace(tiny_recipe, out=tmp_path / "usual"))
    assert same_weights(tmp_path / "own", tmp_path / "usual")


def test_each_process_and_each_step_draw_numbers_of_their_own(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(process: int, step: int, seed: int) -> float:
        monkeypatch.setattr(running, "process_index", lambda: process)
        running._seed_step(replace(tiny_recipe, seed=seed), step)
        return torch.rand(1).item()

    cases = [(process, step, seed) for process in (0, 1) for step in (0, 1, 5) for seed in (0, 1)]
    with torch.random.fork_rng():
        found = [drawn(*case) for case in cases]
        assert found == [drawn(*case) for case in cases]
    assert len(set(found)) == len(cases)


class TestSeed:
    def test_the_seed_decides_everything(self, distilling: Recipe) -> None:
        recipes = {
            name: replace(distilling, seed=seed, out=distilling.out / name)
            for name, seed in (("one", 0), ("again", 0), ("other", 1))
        }
        torch.manual_seed(123)
        run(recipes["one"])
        torch.manual_seed(456)  # what came before a run must not matter
        run(recipes["again"])
        run(recipes["other"])
        assert same_weights(recipes["one"].out, recipes["again"].out)
        assert not same_weights(recipes["one"].out, recipes["other"].out)

    def test_evaluations_on_the_way_do_not_touch_the_weights(self, tiny_recipe: Recipe) -> None:
        run(tiny_recipe)
        watched = replace(tiny_recipe, evaluate_every=2, out=tiny_recipe.out / "watched")
        run(watched)
        assert same_weights(tiny_recipe.out, watched.out)
        counts = [
            sum("metrics" in line for line in read_log(r.out)) for r in (tiny_recipe, watched)
        ]
        assert counts == [1, 3]

    def test_workers_do_not_matter(self, tiny_recipe: Recipe) -> None:
        run(tiny_recipe)
        data = replace(tiny_recipe.data, workers=1)
        with_worker = replace(tiny_recipe, data=data, out=tiny_recipe.out / "worker")
        run(with_worker)
        assert same_weights(tiny_recipe.out, with_worker.out)


def test_layers_that_draw_numbers_draw_them_by_seed_and_step(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swin's stochastic depth, here a dropout behind the pyramid: whole and resumed are equal."""

    def with_dropout(*arguments: object, **options: object) -> Detector:
        student = build_student(*arguments, **options)
        student.neck.register_forward_hook(
            lambda module, _, maps: [F.dropout(x, 0.3, module.training) for x in maps]
        )
        return student

    monkeypatch.setattr(preparing, "build_student", with_dropout)
    whole = replace(tiny_recipe, out=tiny_recipe.out / "whole")
    run(whole)
    torch.manual_seed(77)
    half = replace(tiny_recipe, out=tiny_recipe.out / "half")
    save = running.save_state

    def save_and_stop(*state: object) -> None:
        save(*state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(half)
    train(half, resume=True, progress=False)
    assert torch.initial_seed() == 77, "the caller's generator keeps its seed"
    one, other = weights_of(whole.out), weights_of(half.out)
    assert all(torch.equal(other[name], value) for name, value in one.items())


class TestFamilies:
    SUPERVISED = {
        "gfl": {"qfl", "dfl", "giou"},
        "retinanet": {"focal", "l1"},
        "fcos": {"focal", "log_iou", "centerness"},
        "atss": {"focal", "giou", "centerness"},
    }

    @pytest.mark.parametrize("head", SUPERVISED)
    def test_each_learns_from_labels_and_from_a_teacher_of_gfl(
        self, distilling: Recipe, head: str
    ) -> None:
        recipe = replace(distilling, model=replace(distilling.model, head=head))
        result = run(recipe)
        lines = step_lines(recipe.out)
        assert set(lines[0]["unweighted"]) == self.SUPERVISED[head] | {"binary", "iou"}
        start = build_student(recipe, NAMES).state_dict()
        moved = [n for n, x in weights_of(recipe.out).items() if not torch.equal(x, start[n])]
        assert {name for name, _ in result.detector.named_parameters()} <= set(moved)
        assert load_detector(recipe.out).detector.config.head == head
        assert 0 <= result.metrics.AP <= 1

    def test_distributions_are_distilled_in_gfl_alone(self, distilling: Recipe) -> None:
        model, weights = replace(distilling.model, head="fcos"), replace(ALL_WEIGHTS)
        message = refusal(replace(distilling, model=model, weights=weights))
        assert "term ld needs the box distributions" in message and "student has none" in message


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


def refusal(recipe: Recipe) -> str:
    """The sentence that refuses the recipe before its folder is made."""
    with pytest.raises(InputError) as caught:
        run(recipe)
    assert not recipe.out.exists()
    return str(caught.value)


class TestSingleCells:
    """A BatchNorm that learns has no statistics of one image that is one cell."""

    @pytest.mark.parametrize("change", [{"batch_size": 1}, {"images_per_group": 1}])
    def test_they_are_refused(self, tiny_recipe: Recipe, change: dict) -> None:
        data = replace(tiny_recipe.data, size=ImageSize(32, 32))
        message = refusal(replace(tiny_recipe, data=data, **change))
        assert "images that are 32 pixels or less" in message and "--model.norm-eval" in message

    @pytest.mark.parametrize("why", ["larger", "more", "fixed"])
    def test_what_is_expected_runs(self, tiny_recipe: Recipe, why: str) -> None:
        side = 64 if why == "larger" else 32
        recipe = replace(
            tiny_recipe,
            data=replace(tiny_recipe.data, size=ImageSize(side, side)),
            model=replace(tiny_recipe.model, norm_eval=why == "fixed"),
            batch_size=2 if why == "more" else 1,
            steps=1,
        )
        run(recipe)


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


class TestSchedule:
    def test_terms_take_part_in_their_part_of_the_run(self, distilling: Recipe) -> None:
        weights = replace(ALL_WEIGHTS, ld=0, ld_region=0)
        losses = replace(distilling.losses, softmax_until=0.5, binary_from=1 / 3)
        recipe = replace(distilling, weights=weights, losses=losses, log_every=1, steps=6)
        run(recipe)
        present = [set(line["unweighted"]) - SUPERVISED for line in step_lines(recipe.out)]
        early, both, late = {"softmax", "iou"}, {"softmax", "binary", "iou"}, {"binary", "iou"}
        assert present == [early, early, both, late, late, late]

    @pytest.mark.parametrize("name", ["softmax_until", "binary_from"])
    def test_fractions_out_of_range(self, tiny_recipe: Recipe, name: str) -> None:
        message = refusal(replace(tiny_recipe, losses=replace(tiny_recipe.losses, **{name: 1.5})))
        assert f"losses.{name} is 1.5; expected 1 or less" in message


class TestGradientLog:
    def test_shares_are_logged_and_change_nothing(self, distilling: Recipe) -> None:
        run(distilling)
        logged = replace(distilling, log_gradients=True, out=distilling.out / "logged")
        run(logged)
        assert same_weights(distilling.out, logged.out)
        for line in step_lines(logged.out):
            assert set(line["gradients"]) == {"qfl", "binary"}
            assert line["gradients"]["qfl"]["background"] > 0
            assert set(line["pull"]) == {*SUPERVISED, "binary", "iou"}
            assert sum(line["pull"].values()) == pytest.approx(1)


class TestNonFinite:
    def refusal(self, recipe: Recipe) -> str:
        with pytest.raises(NonFiniteLossError) as caught:
            run(recipe)
        assert not (recipe.out / STUDENT).exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_an_absurd_learning_rate(self, tiny_recipe: Recipe) -> None:
        settings = replace(PLAIN_SGD, learning_rate=1e30)
        data = replace(tiny_recipe.data, first_train=4)
        message = self.refusal(replace(tiny_recipe, optimisation=settings, data=data))
        assert any(f"{term} " in message for term in SUPERVISED)
        for name in ("000001.png", "000002.png", "000003.png", "000004.png"):
            assert name in message
        assert "step " in message

    def test_the_last_good_state_stays(
        self, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The check is a step late, and still before the next state."""
        recipe = replace(tiny_recipe, checkpoint_every=1)
        compute, calls = running.compute_terms, []

        def broken(*arguments: Any, **options: Any) -> Any:
            terms = compute(*arguments, **options)
            calls.append(None)
            if len(calls) == 4:
                terms.values["giou"] = terms.values["giou"] * torch.nan
            return terms

        with monkeypatch.context() as patch:
            patch.setattr(running, "compute_terms", broken)
            message = self.refusal(recipe)
        assert message.startswith("loss term giou is not finite at step 3, images 0000")
        with safe_open(recipe.out / STATE, "pt") as file:
            assert file.metadata()["step"] == "3"
        train(recipe, resume=True, progress=False)
        assert [line["step"] for line in step_lines(recipe.out)] == list(range(6))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_a_finite_loss_leaves_behind(
        self, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, value: float
    ) -> None:
        """An infinite gradient: nothing is saved that a run could go on from."""
        update = running.Run._update

        def overflow(run: running.Run, *step: object) -> None:
            update(run, *step)
            with torch.no_grad():
                run.student.head.box.bias[3] = value

        monkeypatch.setattr(running.Run, "_update", overflow)
        message = self.refusal(replace(tiny_recipe, checkpoint_every=1))
        assert message.startswith("weights head.box.bias are not finite after step 0")
        assert not (tiny_recipe.out / STATE).exists()

    def test_a_broken_teacher(self, distilling: Recipe, tmp_path: Path) -> None:
        """One whose weights are no numbers is refused by its file, another by the loss."""
        teacher = load_detector(distilling.teacher).detector
        path = tmp_path / "broken.safetensors"
        with torch.no_grad():
            teacher.head.box.weight.fill_(3e38)
        save_detector(path, teacher, ImageSize(64, 64), {})
        message = self.refusal(replace(distilling, teacher=path))
        assert "loss term iou is" in message and "step 0" in message
        with torch.no_grad():
            teacher.head.box.bias.fill_(float("nan"))
        save_detector(path, teacher, ImageSize(64, 64), {})
        with pytest.raises(InputError, match=r"broken.*: not finite numbers \(1\): head.box.bias"):
            train(replace(distilling, teacher=path, out=tmp_path / "other"), progress=False)

    def test_an_infinite_weight_is_refused_before_the_first_step(self, tiny_recipe: Recipe) -> None:
        weights = LossWeights(qfl=float("inf"))
        with pytest.raises(InputError, match="weights.qfl is inf; expected a finite number"):
            train(replace(tiny_recipe, weights=weights), progress=False)
        assert not tiny_recipe.out.exists()

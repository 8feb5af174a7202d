"""Training a student, with and without a teacher."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import collate
from bckd.evaluation.average_precision import evaluate
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import EvaluationConfig, LossWeights, Recipe
from bckd.system.errors import InputError, NonFiniteLossError
from bckd.system.files import one_writer
from bckd.training import checks, preparing, trainer
from bckd.training import run as running
from bckd.training.data import training_data
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.terms import compute_terms
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector, save_detector
from bckd.zoo.unfinished import STATE, STUDENT
from tests.training.runs import (
    ALL_TERMS,
    ALL_WEIGHTS,
    NAMES,
    PLAIN_RATE,
    PLAIN_SGD,
    SUPERVISED,
    refusal,
    run,
    same_weights,
    step_lines,
    weights_of,
)


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


class TestLog:
    def test_terms_are_logged_plain_and_weighted(self, distilling: Recipe) -> None:
        run(replace(distilling, weights=ALL_WEIGHTS, steps=2))
        weights = {name: x for name, x in asdict(ALL_WEIGHTS).items() if name in ALL_TERMS}
        for number, line in enumerate(step_lines(distilling.out)):
            assert set(line["unweighted"]) == set(line["weighted"]) == set(weights)
            for name, value in line["unweighted"].items():
                assert value > 0
                assert line["weighted"][name] == pytest.approx(weights[name] * value)
            assert line["loss"] == pytest.approx(sum(line["weighted"].values()))
            assert line["images_per_second"] > 0 and line["learning_rate"] > 0
            # The wait for the first batch, in which loading begins, is not counted.
            assert (line["data_wait"] > 0) == (number > 0) and line["data_wait"] < 1
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


def test_what_a_step_frees_the_next_one_has(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: kept.append(True))
    run(replace(tiny_recipe, steps=1))
    assert kept


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
    assert seen == [(3, {"precision": "bf16", "scorer": "pycocotools", "reserved": 0})]
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

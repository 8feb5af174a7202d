"""Weights steered by gradient share: the rule, and runs that go by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from bckd.commands.main import run as run_command
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import collate
from bckd.evaluation.gradient_shares import flat_gradients, pull_of_terms, pulled_parameters
from bckd.models.detector import Detector
from bckd.recipes import LossWeights, Recipe
from bckd.system.distributed import shared
from bckd.system.errors import InputError
from bckd.teachers.targets import live_teaching
from bckd.training import run as running
from bckd.training import steering as steering_module
from bckd.training.accumulating import InParts
from bckd.training.data import training_data
from bckd.training.recipe_check import check_recipe
from bckd.training.run_log import read_log
from bckd.training.steering import BOUND, EVERY, MEMORY, Steering, named_shares, steering_of
from bckd.training.student import build_student
from bckd.training.terms import compute_terms
from bckd.training.trainer import train
from bckd.zoo.unfinished import STATE, STUDENT
from tests.processes import start_processes

TERM = """
def gap(student, teacher, assignment, batch):
    return (student.cls_logits.sigmoid() - teacher.cls_logits.sigmoid()).square().mean()
"""


def pulls(**sizes: float) -> dict[str, Tensor]:
    return {name: torch.tensor(size) for name, size in sizes.items()}


def factors(steering: Steering) -> dict[str, float]:
    weights = steering.weights(dict.fromkeys(steering.wanted, 1.0))
    return {name: float(weight) for name, weight in weights.items()}


class TestRule:
    def test_one_update_gives_every_term_its_share(self) -> None:
        """Pulls are proportional to weights: what is measured once is put right at once."""
        steering = Steering({"binary": 0.3, "iou": 0.2})
        assert factors(steering) == {"binary": 1, "iou": 1}
        measured = pulls(qfl=2.0, giou=1.0, binary=0.125, iou=9.0)
        steering.update(measured)
        found = {name: float(x) * factors(steering).get(name, 1.0) for name, x in measured.items()}
        whole = sum(found.values())
        assert found["binary"] / whole == pytest.approx(0.3, rel=1e-5)
        assert found["iou"] / whole == pytest.approx(0.2, rel=1e-5)
        told = steering.told(steering.weights({"qfl": 1.0, "binary": 2.0, "iou": 4.0}))
        assert told["binary"]["share"] == pytest.approx(0.125 / 12.125)
        assert told["binary"]["weight"] == pytest.approx(2 * factors(steering)["binary"])

    def test_it_is_the_published_factor(self) -> None:
        """RT-DETRv4's: p_target (1 - p_current) / (p_current (1 - p_target))."""
        steering = Steering({"binary": 0.11})
        steering.update(pulls(qfl=0.96, binary=0.04))
        assert factors(steering)["binary"] == pytest.approx(0.11 * 0.96 / (0.04 * 0.89), rel=1e-5)

    def test_later_measurements_move_it_by_parts(self) -> None:
        """In the logarithm: a mean of the first ones, then a part of the gap each."""
        steering, weight, log_factor = Steering({"binary": 0.5}), 1.0, 0.0
        for count, size in enumerate([1.0, 4.0, 0.5, 3.0, 3.0, 0.2], 1):
            measured = pulls(qfl=1.0, binary=size * weight)
            steering.update(measured)
            part = max(1 / count, 1 - MEMORY)
            log_factor = (1 - part) * log_factor + part * math.log(1 / size)
            weight = factors(steering)["binary"]
            assert weight == pytest.approx(math.exp(log_factor), rel=1e-5)

    @pytest.mark.parametrize(("size", "bound"), [(1e-9, BOUND), (1e9, 1 / BOUND)])
    def test_it_is_bounded(self, size: float, bound: float) -> None:
        steering = Steering({"binary": 0.5})
        for _ in range(3):
            steering.update(pulls(qfl=1.0, binary=size))
        assert factors(steering)["binary"] == pytest.approx(bound, rel=1e-5)

    @pytest.mark.parametrize(
        "measured",
        [
            pulls(qfl=1.0, binary=0.0),
            pulls(qfl=0.0, binary=1.0),
            pulls(qfl=math.inf, binary=1.0),
            pulls(qfl=math.nan, binary=1.0),
            pulls(qfl=1.0, binary=math.inf),
            pulls(qfl=1.0, giou=2.0),
            pulls(binary=1.0),
        ],
    )
    def test_what_says_nothing_changes_nothing(self, measured: dict[str, Tensor]) -> None:
        steering = Steering({"binary": 0.3})
        steering.update(pulls(qfl=1.0, binary=1.0))
        before = {name: value.clone() for name, value in steering.state_dict().items()}
        steering.update(measured)
        for name, value in steering.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_a_term_that_is_absent_leaves_the_others_their_shares(self) -> None:
        steering = Steering({"binary": 0.3, "softmax": 0.5})
        steering.update(pulls(qfl=1.0, binary=1.0))
        assert factors(steering) == pytest.approx({"binary": 3 / 7, "softmax": 1}, rel=1e-5)


@pytest.fixture
def distilling(tiny_recipe: Recipe, tiny_teacher: Path) -> Recipe:
    return replace(tiny_recipe, teacher=tiny_teacher)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured in every other step."""
    monkeypatch.setattr(steering_module, "EVERY", 2)


@pytest.fixture
def still(distilling: Recipe) -> Recipe:
    """Steps that see the same images and hardly move the student, in a log with all pulls."""
    optimisation = replace(distilling.optimisation, learning_rate=1e-9)
    data = replace(distilling.data, first_train=4, flip=0)
    return replace(distilling, optimisation=optimisation, data=data, log_gradients=True)


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(out) if "unweighted" in line]


class TestRun:
    def test_terms_come_to_their_shares(self, still: Recipe, tmp_path: Path) -> None:
        """One of one's own too. The first step has the given weights, the next steered ones."""
        (tmp_path / "gaps.py").write_text(TERM, encoding="utf-8")
        terms = (f"{tmp_path / 'gaps.py'}:gap=200",)
        recipe = replace(still, terms=terms, shares=("gap=0.3", "iou=0.25"), steps=2)
        train(recipe, progress=False)
        first, second = lines_of(recipe.out)
        assert [first["steering"][name]["weight"] for name in ("gap", "iou")] == [200, 4]
        for name, share in (("gap", 0.3), ("iou", 0.25)):
            measured = pytest.approx(first["pull"][name], rel=1e-5)
            assert first["steering"][name]["share"] == measured
            assert abs(first["pull"][name] - share) > 0.05
            assert second["pull"][name] == pytest.approx(share, rel=0.01)
            weight = second["steering"][name]["weight"]
            assert second["weighted"][name] == pytest.approx(weight * second["unweighted"][name])
        assert sum(second["pull"].values()) == pytest.approx(1)
        assert second["pull"].keys() == second["unweighted"].keys()

    def test_it_is_measured_now_and_then(
        self, distilling: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measure, calls = running.pull_of_terms, []
        counted = lambda *given: calls.append(None) or measure(*given)  # noqa: E731
        monkeypatch.setattr(running, "pull_of_terms", counted)
        train(replace(distilling, shares=("binary=0.3",)), progress=False)
        assert len(calls) == 1 and distilling.steps < EVERY
        train(replace(distilling, out=distilling.out / "constant"), progress=False)
        assert len(calls) == 1

    def test_constant_weights_leave_no_trace(self, distilling: Recipe) -> None:
        train(distilling, progress=False)
        assert not any(name.startswith("steering") for name in load_file(distilling.out / STATE))
        assert not any("steering" in line for line in lines_of(distilling.out))

    def test_a_resumed_run_ends_bit_equal(
        self,
        distilling: Recipe,
        often: None,
        tmp_path: Path,
        stop_at_first_state: Callable[..., None],
    ) -> None:
        recipe = replace(distilling, shares=("binary=0.3", "iou=0.2"))
        train(recipe, progress=False)
        other = replace(recipe, out=tmp_path / "resumed")
        stop_at_first_state(lambda: train(other, progress=False))
        assert load_file(other.out / STATE)["steering/log_factors"].abs().min() > 0
        train(other, resume=True, progress=False)
        for name in (STUDENT, STATE):
            ours, theirs = (load_file(x.out / name) for x in (other, recipe))
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                assert torch.equal(ours[key], value), key
        said = [[line["steering"] for line in lines_of(x.out)] for x in (other, recipe)]
        assert said[0] == said[1]

    def test_shares_belong_to_the_run(
        self, distilling: Recipe, stop_at_first_state: Callable[..., None]
    ) -> None:
        recipe = replace(distilling, shares=("binary=0.3",))
        stop_at_first_state(lambda: train(recipe, progress=False))
        with pytest.raises(InputError, match=r"another recipe: shares was \['binary=0.3'\], now"):
            train(distilling, resume=True, progress=False)

    def test_in_parts(self, distilling: Recipe, often: None, tmp_path: Path) -> None:
        """The pull is that of all images at once."""
        model = replace(distilling.model, norm_eval=True)
        recipe = replace(distilling, model=model, shares=("binary=0.3", "iou=0.2"), steps=3)
        found = []
        for parts in (1, 2):
            given = replace(recipe, accumulate=parts, out=tmp_path / str(parts), log_gradients=True)
            train(given, progress=False)
            found.append(lines_of(given.out))
        for ours, theirs in zip(*found, strict=True):
            assert ours["pull"] == pytest.approx(theirs["pull"], rel=1e-3)
            for name, said in theirs["steering"].items():
                assert ours["steering"][name] == pytest.approx(said, rel=1e-3)

    def test_a_measurement_in_parts_changes_nothing(self, distilling: Recipe) -> None:
        """Its forward passes leave the running statistics of a BatchNorm that learns alone."""
        parts = replace(distilling, accumulate=2, images_per_group=2, steps=2)
        students = []
        for log in (False, True):
            recipe = replace(parts, log_gradients=log, out=distilling.out / str(log))
            train(recipe, progress=False)
            students.append(load_file(recipe.out / STUDENT))
        assert any("running_mean" in name for name in students[0])
        assert all(torch.equal(students[1][name], x) for name, x in students[0].items())

    def test_in_fp16(self, still: Recipe, tmp_path: Path) -> None:
        """The shares are those of float32, though gradients of such a size would be 0 in fp16."""
        weights = {name: 1e-6 * weight for name, weight in vars(still.weights).items()}
        still, found = replace(still, weights=LossWeights(**weights)), []
        for precision in ("float32", "fp16"):
            out = tmp_path / precision
            recipe = replace(still, precision=precision, out=out, shares=("binary=0.3",), steps=2)
            train(recipe, progress=False)
            found.append(lines_of(out)[-1])
        assert found[1]["pull"] == pytest.approx(found[0]["pull"], rel=0.05, abs=1e-3)
        assert found[1]["pull"]["binary"] == pytest.approx(0.3, rel=0.05)

    def test_from_the_shell(self, distilling: Recipe) -> None:
        options = f"""
            --data.root {distilling.data.root} --data.size.short-side 64 --data.size.long-side 64
            --model.width 4 --model.channels 8 --model.head-groups 2 --model.head-convs 1 --steps 1
            --batch-size 4 --device cpu --teacher {distilling.teacher} --teacher-check 0
            --share binary=.3 --share iou=.25 --out {distilling.out}
        """
        assert run_command(["train", "scenes", *options.split()]) == 0
        (line,) = lines_of(distilling.out)
        assert line["steering"].keys() == {"binary", "iou"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("shares", "said"),
        [
            (("binray=.3",), "no distillation term 'binray'; .*did you mean binary"),
            (("qfl=.3",), "there is no distillation term 'qfl'"),
            (("binary=0",), "shares has 'binary=0'; expected NAME=SHARE, a share between 0 and 1"),
            (("binary=1",), "shares has 'binary=1'; expected NAME=SHARE"),
            (("binary=nan",), "shares has 'binary=nan'; expected NAME=SHARE"),
            (("binary=a",), "shares has 'binary=a'; expected NAME=SHARE"),
            (("binary",), "shares has 'binary'; expected NAME=SHARE"),
            (("binary=.6", "iou=.4"), "shares add to 1; expected less than 1"),
            (("binary=.2", "binary=.3"), "shares has binary twice"),
            (("softmax=.3",), "the weight of softmax is 0; expected one above 0"),
        ],
    )
    def test_sentences(self, distilling: Recipe, shares: tuple[str, ...], said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            check_recipe(replace(distilling, shares=shares))
        assert "\n" not in str(caught.value)

    def test_without_a_teacher(self, tiny_recipe: Recipe) -> None:
        with pytest.raises(InputError, match="shares is .*; expected a teacher beside it"):
            check_recipe(replace(tiny_recipe, shares=("binary=.3",)))

    def test_terms_of_ones_own(self, distilling: Recipe, tmp_path: Path) -> None:
        (tmp_path / "gap_alone.py").write_text(TERM, encoding="utf-8")
        terms = (f"{tmp_path / 'gap_alone.py'}:gap=0.5",)
        recipe = replace(distilling, terms=terms, shares=("gap=.25",))
        assert named_shares(recipe) == {"gap": 0.25}
        assert steering_of(replace(recipe, shares=())) is None


NAMES = tuple("rgb")


def of_mixed_images(tiny: Recipe, root: Path) -> Recipe:
    """Images of many canvases, in groups of two."""
    data = replace(tiny.data, root=root, size=replace(tiny.data.size, short_side=48, long_side=80))
    model = replace(tiny.model, norm_eval=True)
    weights = LossWeights(softmax=0.75)
    changes = {"model": model, "data": data, "weights": weights, "images_per_group": 2}
    return replace(tiny, batch_size=8, **changes)


def pull_of(recipe: Recipe, teacher: Detector, share: tuple[int, int] = (0, 1)) -> dict[str, float]:
    """Each term's pull in the first step; `share`: of its images."""
    dataset = training_data(recipe.data, recipe.seed)
    known = {"share": share, "images_per_group": 2, "size": dataset.size}
    (keys,) = TrainingBatches(dataset.images, recipe.batch_size, recipe.seed, 0, 1, **known)
    batch = collate([dataset[key] for key in keys], dataset.size)
    student = build_student(recipe, NAMES).train()
    network, said = shared(student), None
    if recipe.accumulate > 1:
        said = InParts(network, batch, recipe, None, lambda part: None)
    given = (batch, recipe, recipe.weights)
    output = said and said.output
    values = compute_terms(network, live_teaching(teacher), *given, output=output).values
    weighted = {name: getattr(recipe.weights, name) * x for name, x in values.items()}
    gradients = flat_gradients if said is None else said.gradients
    pull = pull_of_terms(weighted, pulled_parameters(student), gradients)
    assert all(x.grad is None for x in student.parameters())
    sum(weighted.values()).backward()  # the reducer of many processes goes on as ever
    if said is not None:
        said.backward()
    assert all(x.grad is not None for x in student.parameters())
    return {name: float(x) for name, x in pull.items()}


def _process(rank: int, folder: str, recipe: Recipe, teacher: Detector) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    parts = replace(recipe, accumulate=2)
    torch.save([pull_of(x, teacher, (rank, 2)) for x in (recipe, parts)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_measure_the_pull_of_one(
    tiny_recipe: Recipe, mixed_root: Path, tiny_detector: Callable[..., Detector], tmp_path: Path
) -> None:
    """On images of many canvases, at once and in parts: so all of them steer alike."""
    recipe = of_mixed_images(tiny_recipe, mixed_root)
    teacher = tiny_detector(NAMES, seed=5).requires_grad_(False)
    expected = pull_of(recipe, teacher)
    assert min(expected.values()) > 0
    start_processes(_process, (str(tmp_path), recipe, teacher), 2)
    ours, theirs = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert ours == theirs
    for found in ours:
        assert found == pytest.approx(expected, rel=1e-4)

"""A run killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bckd.checkpoints import STUDENT
from bckd.command_line import run
from bckd.datasets.scene_drawing import class_names
from bckd.errors import InputError
from bckd.preparation import build_student
from bckd.recipes import LossWeights, Optimisation, Recipe
from bckd.resuming import STATE
from bckd.run_log import LOG, read_log
from bckd.trainer import train

ROOT = Path(__file__).parents[1]
STEPS, KILLED_AFTER = 36, 8
NAMES = class_names("standard")


def arguments(recipe: Recipe, out: Path, teacher: Path | None) -> list[str]:
    """The command line of a run on the tiny scenes, with every distillation term on."""
    options = f"""
        train scenes --model.width 4 --model.channels 8 --model.head-groups 2
        --model.head-convs 1 --data.size.short-side 64 --data.size.long-side 64
        --batch-size 4 --steps {STEPS} --checkpoint-every 5 --log-every 1 --device cpu
        --teacher-check 0
        --weights.softmax 0.75 --weights.ld 0.25 --weights.ld-region 0.25
    """.split()
    paths = ["--data.root", str(recipe.data.root), "--out", str(out)]
    return [*options, *paths, *(["--teacher", str(teacher)] if teacher else [])]


@pytest.fixture
def killed() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that a test started; none outlives it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def kill_in_the_middle(processes: list[subprocess.Popen[bytes]], command: list[str]) -> None:
    """Start a run as a process of its own and send it SIGKILL after some steps."""
    out = Path(command[command.index("--out") + 1])
    # As many threads as here: sums in another order end in other last digits.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bckd", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    processes.append(process)
    deadline = time.monotonic() + 120
    while len(read_log(out)) < KILLED_AFTER:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "the run takes too long"
        time.sleep(0.005)
    process.kill()
    process.wait()


@pytest.mark.parametrize("with_teacher", [False, True], ids=["alone", "teacher"])
def test_killed_and_resumed_is_as_never_killed(
    tiny_recipe: Recipe,
    tiny_teacher: Path,
    tmp_path: Path,
    killed: list[subprocess.Popen[bytes]],
    with_teacher: bool,
) -> None:
    teacher = tiny_teacher if with_teacher else None
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    kill_in_the_middle(killed, arguments(tiny_recipe, broken, teacher))
    assert (broken / STATE).exists() and not (broken / STUDENT).exists()
    done = len(read_log(broken))
    assert KILLED_AFTER <= done < STEPS

    run([*arguments(tiny_recipe, broken, teacher), "--resume"])
    run(arguments(tiny_recipe, whole, teacher))
    ours, expected = load_file(broken / STUDENT), load_file(whole / STUDENT)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name
    lines, expected_lines = (
        [line for line in read_log(out) if "unweighted" in line] for out in (broken, whole)
    )
    assert [line["step"] for line in lines] == list(range(STEPS))
    terms = [line["unweighted"] for line in lines]
    assert terms == [line["unweighted"] for line in expected_lines]
    assert len(terms[0]) == (8 if with_teacher else 3)
    results, expected_results = (
        json.loads((out / "results.json").read_text()) for out in (broken, whole)
    )
    del results["seconds"], expected_results["seconds"]
    assert results == expected_results


@pytest.fixture
def stopped(tiny_recipe: Recipe, stop_at_first_state: Callable[..., None]) -> Recipe:
    """The recipe of a run that stopped in its middle, at step 3 of 6."""
    stop_at_first_state(lambda: train(tiny_recipe, progress=False))
    return tiny_recipe


def finish(recipe: Recipe) -> dict[str, torch.Tensor]:
    train(recipe, resume=True, progress=False)
    return load_file(recipe.out / STUDENT)


def uninterrupted(recipe: Recipe) -> dict[str, torch.Tensor]:
    out = recipe.out.with_name("uninterrupted")
    train(replace(recipe, out=out), progress=False)
    return load_file(out / STUDENT)


def assert_equal(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


class TestResume:
    def test_leftovers_of_a_kill_during_a_write(self, stopped: Recipe) -> None:
        state = stopped.out / STATE
        (stopped.out / f".{STATE}.1234.part").write_bytes(state.read_bytes()[:1000])
        with (stopped.out / LOG).open("a") as log:
            log.write('{"step": 3, "loss": 1.')
        assert_equal(finish(stopped), uninterrupted(stopped))
        assert [x["step"] for x in read_log(stopped.out) if "loss" in x] == list(range(6))

    @pytest.mark.parametrize("momentum", [0.9, 0.0])
    def test_sgd(
        self, tiny_recipe: Recipe, stop_at_first_state: Callable[..., None], momentum: float
    ) -> None:
        settings = Optimisation(learning_rate=0.05, momentum=momentum, warmup_steps=2)
        recipe = replace(tiny_recipe, optimisation=settings)
        stop_at_first_state(lambda: train(recipe, progress=False))
        assert_equal(finish(recipe), uninterrupted(recipe))

    def test_fp16_goes_on_with_its_loss_scale(
        self, tiny_recipe: Recipe, stop_at_first_state: Callable[..., None]
    ) -> None:
        """The scale had been halved by then, and two good steps counted since."""
        recipe = replace(tiny_recipe, precision="fp16")
        scaler = torch.amp.GradScaler
        made = []

        def make(*arguments: object, **options: object) -> torch.amp.GradScaler:
            made.append(scaler(*arguments, **options, init_scale=2.0**120))
            made[-1].set_backoff_factor(2.0**-110)
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.amp, "GradScaler", make)
            stop_at_first_state(lambda: train(recipe, progress=False))
            expected = uninterrupted(recipe)
        stopped_at, ended_at = (x.state_dict() for x in made)
        assert stopped_at["scale"] == 2.0**10 and stopped_at["_growth_tracker"] == 2
        assert_equal(finish(recipe), expected)
        assert ended_at["_growth_tracker"] == 5

    def test_a_state_of_an_earlier_version(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        """It numbers the parameters, and knows no groups, crowds or factors of biases."""
        recipe = replace(tiny_recipe, out=tmp_path / "earlier")
        recipe.out.mkdir()
        shutil.copy(
            ROOT / "tests" / "states" / "tiny_scenes_at_3_of_6.safetensors", recipe.out / STATE
        )
        found, expected = finish(recipe), uninterrupted(recipe)
        assert found.keys() == expected.keys()
        for name, value in expected.items():  # it was written on another machine
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)

    def test_buffers_find_their_parameters_by_name(
        self, tiny_recipe: Recipe, stop_at_first_state: Callable[..., None]
    ) -> None:
        """Biases in a group of their own change the order of the parameters."""
        settings = replace(tiny_recipe.optimisation, bias_rate=2.0, bias_decay=0.0)
        recipe = replace(tiny_recipe, optimisation=settings)
        stop_at_first_state(lambda: train(recipe, progress=False))
        names = {name.split("/")[1] for name in load_file(recipe.out / STATE) if "exp_avg" in name}
        assert names == {name for name, _ in build_student(recipe, NAMES).named_parameters()}
        assert_equal(finish(recipe), uninterrupted(recipe))

    def test_what_does_not_touch_the_weights_may_differ(self, stopped: Recipe) -> None:
        changed = replace(stopped, log_every=2, checkpoint_every=100, evaluate_every=4)
        assert_equal(finish(changed), uninterrupted(stopped))

    def test_a_finished_run_is_only_evaluated_again(self, tiny_recipe: Recipe) -> None:
        before = train(tiny_recipe, progress=False)
        log = read_log(tiny_recipe.out)
        after = train(tiny_recipe, resume=True, progress=False)
        assert repr(after.metrics) == repr(before.metrics)  # AP of large objects is nan
        assert read_log(tiny_recipe.out) == log
        assert_equal(after.detector.state_dict(), before.detector.state_dict())

    def test_an_empty_folder_starts_from_the_beginning(self, tiny_recipe: Recipe) -> None:
        assert_equal(finish(tiny_recipe), uninterrupted(tiny_recipe))


class TestRefusals:
    def refusal(self, recipe: Recipe, resume: bool) -> str:
        before = {p: p.read_bytes() for p in recipe.out.rglob("*") if p.is_file()}
        with pytest.raises(InputError) as caught:
            train(recipe, resume=resume, progress=False)
        assert before == {p: p.read_bytes() for p in recipe.out.rglob("*") if p.is_file()}
        assert str(recipe.out) in str(caught.value)
        return str(caught.value)

    def test_a_stopped_run_is_not_started_anew(self, stopped: Recipe) -> None:
        assert "--resume" in self.refusal(stopped, resume=False)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"seed": 1}, "seed was 0, now 1"),
            ({"steps": 9}, "steps was 6, now 9"),
            ({"batch_size": 2}, "batch_size was 4, now 2"),
            ({"weights": LossWeights(giou=1.5)}, "weights.giou was 2.0, now 1.5"),
            ({"images_per_group": 2}, "images_per_group was None, now 2"),
        ],
    )
    def test_another_recipe(self, stopped: Recipe, change: dict, words: str) -> None:
        assert words in self.refusal(replace(stopped, **change), resume=True)

    def test_a_nested_field_is_named(self, stopped: Recipe) -> None:
        size = replace(stopped.data.size, short_side=32)
        recipe = replace(stopped, data=replace(stopped.data, size=size))
        assert "data.size.short_side was 64, now 32" in self.refusal(recipe, resume=True)

    def test_a_broken_state(self, stopped: Recipe) -> None:
        path = stopped.out / STATE
        path.write_bytes(path.read_bytes()[:500])
        assert STATE in self.refusal(stopped, resume=True)

    def test_a_student_is_no_state(self, tiny_recipe: Recipe) -> None:
        train(tiny_recipe, progress=False)
        (tiny_recipe.out / STUDENT).replace(tiny_recipe.out / STATE)
        assert "no resume state" in self.refusal(tiny_recipe, resume=True)

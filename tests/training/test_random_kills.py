"""A run that is killed again and again, at moments drawn at random, ends as one that never was.

SIGKILL leaves no time for a last word. Where it hurts most is between two operations on files, so
half of the kills fall there: a process kills itself at one of them, whose number is drawn.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bckd.recipes import Recipe
from bckd.training.resume_state import PREVIOUS
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.unfinished import STATE, STUDENT
from tests.processes import quick_context
from tests.same_runs import assert_same_runs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
KILLS, SEED = 4, 0
# What Python tells its audit hooks before it does it.
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def run_and_die(recipe: Recipe, threads: int, number: int | None) -> None:
    """Train, as far as it goes: to the run's end, or to its own file operation of this number."""
    torch.set_num_threads(threads)
    done = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event in OPERATIONS and str(recipe.out) in str(arguments[0]):
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    train(recipe, resume=True, progress=False)


def start(recipe: Recipe, number: int | None = None) -> BaseProcess:
    work = (recipe, torch.get_num_threads(), number)
    process = quick_context().Process(target=run_and_die, args=work)
    process.start()
    return process


def at_an_operation(recipe: Recipe, rng: random.Random, seconds: float) -> int:
    process = start(recipe, rng.randint(1, 120))  # of some 260 in a whole run
    process.join()
    return process.exitcode or 0


def by_the_clock(recipe: Recipe, rng: random.Random, seconds: float) -> int:
    process = start(recipe)
    process.join(rng.uniform(0.1, 0.6) * seconds)
    process.kill()
    process.join()
    return process.exitcode or 0


def steps_saved(out: Path) -> int:
    """Of the newest state; one whose writing a kill has cut is never the only one."""
    steps = [0]
    for path in (out / STATE, out / PREVIOUS):
        if path.exists():
            with safe_open(path, "pt") as file:
                steps.append(int(file.metadata()["step"]))
    return max(steps)


def assert_nothing_is_half_written(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own name no file is; a log's last line may be cut, and reading it tells nothing."""
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    for path in out.rglob("*.safetensors"):
        load_file(path)
    capsys.readouterr()
    read_log(out)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kill", [at_an_operation, by_the_clock])
def test_killed_at_random_a_run_ends_as_one_that_never_was(
    tiny_recipe: Recipe,
    tiny_teacher: Path,
    kill: Callable[[Recipe, random.Random, float], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"steps": 24, "checkpoint_every": 3, "evaluate_every": 8, "log_every": 2}
    recipe = replace(tiny_recipe, teacher=str(tiny_teacher), **settings)
    whole, began = replace(recipe, out=recipe.out.with_name("whole")), time.perf_counter()
    start(whole).join()
    seconds = time.perf_counter() - began
    rng, saved, killed = random.Random(SEED), 0, 0
    for _ in range(KILLS):
        code = kill(recipe, rng, seconds)
        assert code in (0, -signal.SIGKILL), "it ended by an error"
        killed += code != 0
        if recipe.out.exists():
            assert_nothing_is_half_written(recipe.out, capsys)
        now = steps_saved(recipe.out)
        assert now >= saved, "steps that were saved are lost"
        saved = now
        if (recipe.out / STUDENT).exists() and (recipe.out / "results.json").exists():
            break
    assert killed > 0
    train(recipe, resume=True, progress=False)
    assert_same_runs(recipe.out, whole.out)

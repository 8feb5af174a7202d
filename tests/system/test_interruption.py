"""A run that is told to end saves what it did, and a resumed one ends as if it had not been."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from bckd.commands.main import main
from bckd.datasets import scenes
from bckd.recipes import Recipe
from bckd.system.errors import InputError, Interrupted
from bckd.system.interruption import ending
from bckd.training import run as running
from bckd.training import trainer
from bckd.training.run import snapshot
from bckd.training.trainer import train
from bckd.zoo.unfinished import STATE, STUDENT
from tests.same_runs import assert_same_runs

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def calling(function: Callable[..., Any], count: int, act: Callable[[], None]) -> Callable:
    """The function, which acts first at its call of this number, counted from 1."""
    calls = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == count:
            act()
        return function(*arguments, **options)

    return wrapped


def tell(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def handlers() -> list[object]:
    return [signal.getsignal(x) for x in (*SIGNALS, signal.SIGCHLD)]


def stop(recipe: Recipe, place: str, count: int, act: Callable[[], None]) -> BaseException:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, place, calling(getattr(running, place), count, act))
        with pytest.raises((Interrupted, InputError)) as caught:
            train(recipe, progress=False)
    return caught.value


def steps_done(recipe: Recipe) -> int:
    with safe_open(recipe.out / STATE, "pt") as file:
        return int(file.metadata()["step"])


def assert_ends_as_uninterrupted(recipe: Recipe) -> None:
    """Weights, log (but for speeds), snapshots."""
    train(recipe, resume=True, progress=False)
    whole = replace(recipe, out=recipe.out.with_name("whole"))
    train(whole, progress=False)
    assert_same_runs(recipe.out, whole.out)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_is_ended_and_saved(tiny_recipe: Recipe, number: int, workers: int) -> None:
    """Between two states, and between two lines of the log."""
    data = replace(tiny_recipe.data, workers=workers)
    recipe = replace(tiny_recipe, data=data, checkpoint_every=100, log_every=3)
    before = handlers()
    error = stop(recipe, "compute_terms", 2, tell(number))
    assert isinstance(error, Interrupted) and error.number == number
    assert str(recipe.out) in str(error) and "--resume goes on" in str(error)
    assert steps_done(recipe) == 2
    assert handlers()[:2] == before[:2]
    assert not active_children()
    assert_ends_as_uninterrupted(recipe)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_evaluation_is_left_at_once_and_made_up_for(tiny_recipe: Recipe, number: int) -> None:
    recipe = replace(tiny_recipe, checkpoint_every=100, evaluate_every=2)
    evaluate = running.evaluate
    error = stop(recipe, "evaluate", 1, tell(number))
    assert isinstance(error, Interrupted) and running.evaluate is evaluate
    assert steps_done(recipe) == 2 and not snapshot(recipe.out, 2).exists()
    assert_ends_as_uninterrupted(recipe)


def test_a_loading_process_that_is_killed_is_one_sentence(tiny_recipe: Recipe) -> None:
    """And no step before it is lost."""
    data = replace(tiny_recipe.data, workers=1)
    recipe = replace(tiny_recipe, data=data, steps=12, checkpoint_every=100)

    def kill() -> None:
        (worker,) = active_children()
        os.kill(worker.pid, signal.SIGKILL)
        wait([worker.sentinel])  # dead, and not yet waited for: torch's handler would raise here

    error = stop(recipe, "compute_terms", 3, kill)
    assert isinstance(error, InputError)
    assert str(error).startswith("a process that loads images was ended from outside")
    assert 3 <= steps_done(recipe) < 12
    assert_ends_as_uninterrupted(recipe)


def test_loading_processes_are_of_a_group_of_their_own(tiny_recipe: Recipe) -> None:
    """Ctrl-C and torchrun signal a whole group; the step under way still needs its images."""
    recipe = replace(tiny_recipe, data=replace(tiny_recipe.data, workers=1))
    groups = []

    def look() -> None:
        (worker,) = active_children()
        groups.append(os.getpgid(worker.pid) == worker.pid)
        os.kill(worker.pid, signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "compute_terms", calling(running.compute_terms, 2, look))
        train(recipe, progress=False)
    assert groups == [True]


def test_what_comes_too_late_is_the_callers(tiny_recipe: Recipe) -> None:
    """After the last evaluation there is nothing to stop, but a demo must not go on."""
    with pytest.MonkeyPatch.context() as patch:
        act = calling(running.save_detector, 1, tell(signal.SIGINT))
        patch.setattr(running, "save_detector", act)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_recipe, progress=False)
    assert (tiny_recipe.out / STUDENT).exists()


def test_a_destructor_is_not_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as that of a DataLoader: Python would print the error and go on."""

    class Held:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            ended.append(True)

    ended: list[bool] = []
    with pytest.raises(Interrupted), ending(tmp_path) as told, told.at_once():
        del (held := [Held()])[0]
        assert not held
    assert ended == [True] and capsys.readouterr().err == ""


def test_who_asks_twice_does_not_wait(tmp_path: Path) -> None:
    with ending(tmp_path) as told:
        signal.raise_signal(signal.SIGINT)
        assert told.told == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        told.told = None


def test_in_a_thread_no_handler_is_set(tiny_recipe: Recipe) -> None:
    before, ended = handlers(), []
    work = threading.Thread(target=lambda: ended.append(train(tiny_recipe, progress=False)))
    work.start()
    work.join()
    assert len(ended) == 1 and handlers() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_ends_with_the_signals_code(
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = pickle.loads(pickle.dumps(Interrupted(number, tmp_path)))  # as a process hands it on

    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train", interrupted)
    monkeypatch.setattr(sys, "argv", ["bckd", "train", "scenes"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bckd: stopped by {signal.Signals(number).name}; {tmp_path} holds")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_says_so_where_no_run_trains_yet(
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As while data are read; what was half-written goes."""
    before = handlers()
    monkeypatch.setattr(scenes, "draw_scene", calling(scenes.draw_scene, 2, tell(number)))
    monkeypatch.setattr(sys, "argv", ["bckd", "scenes", "--root", str(tmp_path / "s")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code and handlers() == before
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"bckd: stopped by {signal.Signals(number).name}")
    )
    assert not list(tmp_path.iterdir())


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    """So a shell starts what it runs in the background: Ctrl-C is not for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending(tmp_path) as told:
            signal.raise_signal(signal.SIGINT)
        assert told.told is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

"""The average over the weights: what it is, and that it is what a run judges, saves and resumes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.training.averaging import AveragedStudent
from bckd.training.run import Run, snapshot
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.unfinished import STATE, STUDENT


@pytest.fixture
def averaging(tiny_recipe: Recipe) -> Recipe:
    return replace(tiny_recipe, optimisation=replace(tiny_recipe.optimisation, ema=0.6))


def test_it_is_that_of_the_textbook(tiny_detector: Callable[..., Detector]) -> None:
    student = tiny_detector()
    average = AveragedStudent(student, deepcopy(student), 0.9)
    expected = {name: x.clone() for name, x in student.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for x in student.state_dict().values():
                x.copy_(x + 1)
            for name, x in student.named_parameters():
                expected[name] = 0.9 * expected[name] + 0.1 * x
        average.update()
    found = average.detector.state_dict()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(found[name], expected.get(name, value))


def test_it_is_saved_and_judged_while_the_student_goes_its_way(
    tiny_recipe: Recipe, averaging: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(replace(tiny_recipe, out=tiny_recipe.out / "plain"), progress=False).out
    result = train(averaging, progress=False)
    student, averaged = (
        {
            name.removeprefix(owner): value
            for name, value in load_file(averaging.out / STATE).items()
            if name.startswith(owner)
        }
        for owner in ("model/", "averaged/")
    )
    for name, value in load_file(plain / STUDENT).items():
        assert torch.equal(student[name], value), name
    saved = load_file(averaging.out / STUDENT)
    for name, value in result.detector.state_dict().items():
        assert torch.equal(saved[name], value) and torch.equal(averaged[name], value)
    assert any(not torch.equal(student[name], saved[name]) for name in saved)
    judged = []
    monkeypatch.setattr(
        "bckd.training.run.evaluate", lambda detector, *_, **__: judged.append(detector) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        train(averaging, resume=True, progress=False)
    found = judged[0].state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.items())


def test_a_resumed_run_ends_with_the_same_average(
    averaging: Recipe, stop_at_first_state: Callable[..., None]
) -> None:
    recipe = replace(averaging, evaluate_every=5)
    stop_at_first_state(lambda: train(recipe, progress=False))
    state = load_file(recipe.out / STATE)
    unfinished = load_detector(recipe.out).detector.state_dict()
    assert all(torch.equal(state[f"averaged/{name}"], value) for name, value in unfinished.items())
    train(recipe, resume=True, progress=False)
    whole = train(replace(recipe, out=recipe.out / "whole"), progress=False).out
    for path in (recipe.out / STUDENT, snapshot(recipe.out, 5)):
        other = whole / path.relative_to(recipe.out)
        assert path.read_bytes() == other.read_bytes()


def test_a_run_without_one_saves_the_student(tiny_recipe: Recipe) -> None:
    assert Run.__dataclass_fields__["averaged"].default is None
    out = train(tiny_recipe, progress=False).out
    assert not any(name.startswith("averaged/") for name in load_file(out / STATE))

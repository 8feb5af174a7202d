"""A disk that is full in the middle of a run: one sentence, and nothing that was saved is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training import live_report
from bckd.training import run as running
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.unfinished import STUDENT

resource = pytest.importorskip("resource", reason="this system limits no size of files")


@contextmanager
def full(patch: pytest.MonkeyPatch, module: ModuleType, place: str, call: int) -> Iterator[None]:
    """The system takes no byte beyond the hundredth of a file, from a call of a function on."""
    function, calls = getattr(module, place), []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        return function(*arguments, **options)

    patch.setattr(module, place, limited)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        patch.undo()


@pytest.mark.parametrize(
    ("module", "place", "file"),
    [
        (running, "compute_terms", "log.jsonl"),
        (running, "save_state", "resume.safetensors"),
        (live_report, "write_json", "view.json"),
        (live_report, "run_report", "report.html"),
        (running, "save_detector", "000004.safetensors"),
    ],
)
def test_it_is_told_and_the_run_goes_on_later(
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    place: str,
    file: str,
) -> None:
    """The second call of each: something was saved before."""
    monkeypatch.setattr(live_report, "REST", 0)
    monkeypatch.setattr(live_report, "SHORTEST_REST", 0)
    recipe = replace(tiny_recipe, checkpoint_every=2, evaluate_every=2)
    call = 4 if place == "compute_terms" else 2
    with monkeypatch.context() as patch, full(patch, module, place, call):
        with pytest.raises(InputError, match="can't be written: File too large"):
            train(recipe, progress=False)
    assert not list(recipe.out.rglob("*.part"))
    train(recipe, resume=True, progress=False)
    whole = replace(recipe, out=recipe.out.with_name("whole"))
    train(whole, progress=False)
    ours, expected = (load_file(x.out / STUDENT) for x in (recipe, whole))
    assert all(torch.equal(ours[name], value) for name, value in expected.items())
    steps = [[x["step"] for x in read_log(y.out)] for y in (recipe, whole)]
    assert steps[0] == steps[1]
    assert {x.name for x in recipe.out.iterdir()} == {x.name for x in whole.out.iterdir()}

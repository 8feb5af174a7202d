"""The page of a run: written while it trains, after it, and of a folder alone."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.reports.seen import seen_by
from bckd.system.errors import InputError, NonFiniteLossError
from bckd.training import live_report
from bckd.training.data import validation_data
from bckd.training.live_report import REPORT, VIEW, LiveReport, run_report
from bckd.training.run import Run
from bckd.training.run_log import NoLog
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.unfinished import STUDENT


def view_of(recipe: Recipe) -> dict:
    return json.loads((recipe.out / VIEW).read_text())


def page_of(recipe: Recipe) -> str:
    return (recipe.out / REPORT).read_text(encoding="utf-8")


def test_teacher_and_student_side_by_side(tiny_recipe: Recipe, tiny_teacher: Path) -> None:
    recipe = replace(tiny_recipe, teacher=tiny_teacher)
    train(recipe, progress=False)
    view = view_of(recipe)
    assert (view["running"], view["end"], view["step"]) == (False, "Finished", recipe.steps)
    assert len(view["images"]) == 4
    for pictures in view["images"].values():
        assert list(pictures) == [
            "objects",
            *("teacher", "teacher, scores"),
            *("student", "student, scores"),
        ]
        sizes = {Image.open(io.BytesIO(base64.b64decode(x))).size for x in pictures.values()}
        assert sizes == {(320, 320)}
    assert page_of(recipe).count("<img") == 20
    assert "Finished" in page_of(recipe) and "refresh" not in page_of(recipe)


def test_without_a_teacher(tiny_recipe: Recipe) -> None:
    train(tiny_recipe, progress=False)
    for pictures in view_of(tiny_recipe)["images"].values():
        assert list(pictures) == ["objects", "student", "student, scores"]


def test_tensorboard_has_pictures_of_each_evaluation(tiny_recipe: Recipe) -> None:
    train(replace(tiny_recipe, evaluate_every=2), progress=False)
    board = EventAccumulator(str(tiny_recipe.out / "tensorboard")).Reload()
    tags = board.Tags()["images"]
    assert len(tags) == 4 and all(tag.startswith("images/") for tag in tags)
    for tag in tags:
        assert [event.step for event in board.Images(tag)] == [1, 3, 5]
        assert Image.open(io.BytesIO(board.Images(tag)[0].encoded_image_string)).size == (960, 320)


def test_it_changes_nothing(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page after every line: the same weights as without any."""
    recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, norm_eval=False))
    monkeypatch.setattr(live_report, "SHORTEST_REST", 0.0)
    monkeypatch.setattr(live_report, "REST", 0)
    pages, look = [], LiveReport._look
    monkeypatch.setattr(LiveReport, "_look", lambda x, done: (pages.append(done), look(x, done))[1])
    train(recipe, progress=False)
    assert pages == [1, 2, 3, 4, 5, 6, 6]
    monkeypatch.setattr(LiveReport, "line", lambda *_: None)
    monkeypatch.setattr(LiveReport, "evaluated", lambda *_: None)
    without = replace(recipe, out=recipe.out.with_name("without"))
    train(without, progress=False)
    ours, expected = (load_file(x.out / STUDENT) for x in (recipe, without))
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_it_rests_for_longer_than_it_takes(
    tiny_recipe: Recipe, tiny_detector: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a hundredth of the time, however long a page takes."""
    validation = validation_data(tiny_recipe.data)
    report = LiveReport(tiny_recipe, NoLog(), tiny_detector(), None, validation)
    now, pages = [0.0], []

    def write(_: LiveReport) -> None:
        pages.append(now[0])
        now[0] += 3.0

    monkeypatch.setattr(LiveReport, "_write", write)
    monkeypatch.setattr(live_report, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for done in range(2000):
        now[0] += 1.0
        report.line(done)
    rests = [after - before for before, after in pairwise(pages)]
    assert pages[0] == 1.0 and len(rests) > 2 and min(rests) > 100 * 3.0


def test_what_ended_a_run_is_said(tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("no space is left")

    monkeypatch.setattr(Run, "evaluate", refuse)
    with pytest.raises(InputError, match="no space is left"):
        train(tiny_recipe, progress=False)
    assert "It ended: no space is left" in page_of(tiny_recipe)


def test_a_page_that_cant_be_written_hides_no_other_error(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("no space is left")

    def broken(*_: object, **__: object) -> None:
        monkeypatch.setattr(live_report, "write_json", refuse)
        raise NonFiniteLossError("nan")

    monkeypatch.setattr(Run, "evaluate", broken)
    with pytest.raises(NonFiniteLossError):
        train(tiny_recipe, progress=False)


def test_a_resumed_run_shows_all_of_its_curves(
    tiny_recipe: Recipe, stop_at_first_state: Callable[..., None]
) -> None:
    stop_at_first_state(lambda: train(tiny_recipe, progress=False))
    assert "It ended" in page_of(tiny_recipe)
    train(tiny_recipe, resume=True, progress=False)
    points = re.search(r'points="([^"]*)"', page_of(tiny_recipe).partition("weighted sum")[2])
    assert len(points[1].split()) == tiny_recipe.steps


def test_a_folder_alone_is_enough(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Also that of an earlier version, which kept no view; and one that holds no run is told."""
    train(tiny_recipe, progress=False)
    assert run_report(tiny_recipe.out) == page_of(tiny_recipe)
    assert run_report(tiny_recipe.out, images=1).count("<img") == 3
    (tiny_recipe.out / VIEW).unlink()
    said = run_report(tiny_recipe.out)
    assert "<img" not in said and "Finished" in said and "polyline" in said
    with pytest.raises(InputError, match="nothing does not exist"):
        run_report(tmp_path / "nothing")


def test_what_is_no_number_is_drawn_all_the_same(tiny_recipe: Recipe) -> None:
    train(tiny_recipe, progress=False)
    detector = load_detector(tiny_recipe.out).detector.train()
    for parameter in detector.parameters():
        parameter.data.fill_(torch.nan)
    batch = validation_data(tiny_recipe.data).batch([0])
    (pictures,) = seen_by(detector, batch, "student")
    assert set(pictures) == {"student", "student, scores"} and detector.training


@pytest.mark.parametrize(("done", "evaluations"), [(39, 4), (40, 4), (41, 3), (95, 1), (100, 1)])
def test_time_left_counts_evaluations_too(tiny_recipe: Recipe, done: int, evaluations: int) -> None:
    """Steps 40, 60 and 80 are evaluated on the way, and the end."""
    recipe = replace(tiny_recipe, steps=100, evaluate_every=20, batch_size=4)
    run = SimpleNamespace(recipe=recipe, evaluation_seconds=1000.0)
    assert Run._seconds_left(run, done, 8.0) == 1000 * evaluations + (100 - done) / 2


def test_a_page_that_memory_does_not_suffice_for_ends_no_run(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    monkeypatch.setattr(live_report, "seen_by", fails)
    train(tiny_recipe, progress=False)
    assert (tiny_recipe.out / STUDENT).is_file()
    assert "is without the student's pictures: memory ran out" in capsys.readouterr().out
    images = view_of(tiny_recipe)["images"]
    assert images and all(list(pictures) == ["objects"] for pictures in images.values())
    monkeypatch.setattr(live_report, "seen_by", lambda *_: torch.ones(2) + torch.ones(3))
    with pytest.raises(RuntimeError, match="must match"):
        train(replace(tiny_recipe, out=tiny_recipe.out / "other"), progress=False)

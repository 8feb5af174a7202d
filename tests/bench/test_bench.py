"""The whole bench on tiny images: what it says, never how fast."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.bench import annotations, exporting, loading, scoring, terms
from bckd.bench.bench import run_bench
from bckd.bench.heard import PARTS as STEP_PARTS
from bckd.bench.heard import TEACHER, HeardRun
from bckd.bench.options import BenchOptions
from bckd.bench.random_batches import random_batch
from bckd.bench.results import LeftOut, Line, Results, read_results
from bckd.bench.subject import Subject, subject_of
from bckd.commands import bench as command
from bckd.losses.terms import TERMS
from bckd.system.errors import InputError
from tests.processes import quick_context

TINY = BenchOptions(device="cpu", batch_size=2, height=64, width=64, repeat=2, workers=0)


def write_nothing(checkpoint: object, path: Path) -> None:
    path.write_text("")


def refuse(checkpoint: object, path: Path) -> None:
    raise InputError("no onnx here")


@pytest.fixture(scope="module")
def measured() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "FEWER", 5)
        patch.setattr(annotations, "IMAGES", 1000)
        patch.setattr(annotations, "get_context", quick_context)
        patch.setattr(loading, "COCO_SHAPES", [(48, 64), (64, 40), (48, 64)])
        patch.setattr(loading, "_DRAWN", 3)
        patch.setattr(exporting, "_WRITERS", {"program": write_nothing, "ONNX": refuse})
        return run_bench("scenes", TINY)


def lines(results: Results, part: str) -> dict[str, Line]:
    return {line.name: line for line in results.lines if line.part == part}


def test_every_part_is_there(measured: Results) -> None:
    step = {"whole step", *STEP_PARTS, "targets alone", "whole step, images loaded", "data wait"}
    assert set(lines(measured, "step")) == step
    assert set(lines(measured, "terms")) == {*TERMS}
    loader = {"image, by one process", "samples to a batch", "batch, by 0 worker processes"}
    assert set(lines(measured, "loader")) == loader
    halves = ("", ": network", ": post-processing")
    batches = {f"batch of {count}{half}" for count in (1, 16) for half in halves}
    assert set(lines(measured, "inference")) == batches
    assert set(lines(measured, "evaluation")) == {"scoring of 5 images"}
    read, taken = lines(measured, "annotations")
    assert re.fullmatch(r"1,000 images, \d,\d{3} boxes and polygons: read", read)
    assert taken == "taken over by a process that loads images"
    assert set(lines(measured, "export")) == {"program"}
    assert measured.left_out == (LeftOut("export", "ONNX was left out: no onnx here"),)


def test_times_are_positive_and_in_order(measured: Results) -> None:
    for line in measured.lines:
        assert 0 < line.seconds.lower <= line.seconds.median <= line.seconds.upper, line
    assert measured.machine.peak > 0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells")
def test_annotations_take_the_memory_of_what_is_kept_of_them(measured: Results) -> None:
    """Not that of the process which measures, nor much of what is passed over."""
    read, taken = lines(measured, "annotations").values()
    assert 0 <= (taken.memory or 0) < (read.memory or 0) < 40e6


def test_annotations_that_a_disk_has_no_room_for_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And all else is measured."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(annotations, "write_many_instances", full)
    monkeypatch.setattr(scoring, "FEWER", 5)
    results = run_bench("scenes", replace(TINY, parts=("annotations", "evaluation")))
    (left,) = results.left_out
    assert left == LeftOut("annotations", "they were left out: No space left on device")
    assert set(lines(results, "evaluation")) == {"scoring of 5 images"}


def test_a_step_is_as_long_as_its_parts(measured: Results) -> None:
    step = lines(measured, "step")
    assert all(step[name].seconds.median < step["whole step"].seconds.median for name in STEP_PARTS)
    assert step["data wait"].seconds.median < step["whole step, images loaded"].seconds.median
    flop = [step[name].flop for name in ("teacher", "student forward", "backward")]
    assert step["whole step"].flop == sum(x or 0 for x in flop) > 0


def test_terms_learn_and_those_that_lack_something_are_left_out() -> None:
    """Every term's gradient reaches what the student says; of another family two are not there."""
    subject = subject_of("coco-retinanet-r50", TINY)
    small = replace(
        subject.recipe.model, backbone="small_resnet", frozen_stages=0, width=8, channels=16
    )
    larger = replace(small, width=16, channels=32)
    subject = replace(subject, recipe=replace(subject.recipe, model=small), teacher=larger)
    pair = terms._pair(subject)
    for name, term in TERMS.items():
        if term.needs and "distributions" in term.needs:
            assert pair.lacks(term.needs)
            continue
        for leaf in pair.leaves:
            leaf.grad = None
        terms._and_gradient(pair.term(subject, name, term), pair)()
        assert any(x.grad is not None and x.grad.abs().sum() > 0 for x in pair.leaves), name
    found = [x for x in terms.time_terms(subject) if isinstance(x, LeftOut)]
    assert [x.why.split()[0] for x in found] == ["ld", "ld_region"]
    (nobody,) = terms.time_terms(replace(subject, teacher=None))
    assert isinstance(nobody, LeftOut)


def test_without_a_teacher_none_is_timed() -> None:
    subject = subject_of("scenes", replace(TINY, teacher="none"))
    run = HeardRun(subject)
    run.step(random_batch(subject, 2, seed=0))
    (parts,) = run.read()
    assert set(STEP_PARTS) - set(parts) == {TEACHER}


def test_a_clock_changes_nothing() -> None:
    """Steps that are heard lead to the weights of steps that are not."""
    subject = subject_of("scenes", TINY)
    weights = []
    for is_heard in (True, False):
        run = HeardRun(subject)
        if not is_heard:
            run.network, run.run.teaching = run.run.networks()[0], run.teaching
            run.run.scaler = torch.amp.GradScaler("cpu", enabled=False)
        for seed in (0, 1):
            run.step(random_batch(subject, 2, seed))
        weights.append([x.detach().clone() for x in run.student.parameters()])
    before = HeardRun(subject).student.parameters()
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(before, weights[0], strict=True))


def subject(**options: object) -> Subject:
    return subject_of("coco-fcos-r50", replace(BenchOptions(device="cpu"), **options))


def test_what_options_leave_open() -> None:
    assert subject().settings.teacher == "fcos on resnet101"
    assert subject(teacher="coco-r101").teacher.head == "gfl"
    assert subject().canvas == (320, 320)
    assert subject(height=800, width=1333).canvas == (800, 1344)
    assert subject(batch_size=3).recipe.images_per_group is None
    assert subject(batch_size=4).recipe.images_per_group == 2
    assert not subject().recipe.model.pretrained


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["coco-r5"], "preset 'coco-r5' is unknown; did you mean coco-r50"),
        (["--teacher", "r101"], "preset 'r101' is unknown"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--parts", "stop"], "--parts"),
        (["--batch-size", "0"], "batch_size is 0; expected 1 or more"),
        (["--compare", "nowhere.json"], "nowhere.json"),
        (["scenes", "--device", "cpu", "--parts", "loader", "--root", "nowhere"], "nowhere"),
    ],
)
def test_what_it_refuses(arguments: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        command.run(arguments)
    assert sentence in str(refusal.value)


def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "FEWER", 5)
    out = tmp_path / "bench.json"
    words = "scenes --device cpu --parts evaluation --repeat 1 --teacher none --out"
    arguments = [*words.split(), str(out)]
    command.run(arguments)
    assert "scoring of 5 images" in capsys.readouterr().out
    assert set(json.loads(out.read_text())) == {"machine", "settings", "lines", "left_out"}
    command.run([*arguments, "--compare", str(out)])
    assert "faster: than on" in capsys.readouterr().out
    assert read_results(out).settings.teacher == "none"

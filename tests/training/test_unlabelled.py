"""Images without labels: nothing is learnt of them from labels, all that is distilled is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bckd.commands.main import run
from bckd.datasets.coco import collate
from bckd.models.detector import Detector, HeadName
from bckd.models.heads import HEADS
from bckd.recipes import DataConfig, LossWeights, Recipe
from bckd.structures import Batch
from bckd.system.errors import InputError
from bckd.system.values import to_plain
from bckd.teachers.stand_ins import with_stand_ins
from bckd.teachers.targets import Teaching, live_teaching
from bckd.training.data import training_data
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.terms import compute_terms
from bckd.training.trainer import train
from bckd.training.twin import twin_of
from bckd.zoo.unfinished import STUDENT

NAMES = tuple("rgb")


def unlabel(path: Path, every: bool = False) -> set[int]:
    """Take the labels off every second image, or off all of them; the ids of those that have."""
    content = json.loads(path.read_text())
    if every:
        del content["annotations"]
        path.write_text(json.dumps(content))
        return set()
    chosen = content["images"][::2]
    for image in chosen:
        image["labelled"] = False
    ids = {image["id"] for image in chosen}
    rows = content["annotations"]
    content["annotations"] = [row for row in rows if row["image_id"] not in ids]
    path.write_text(json.dumps(content))
    return {image["id"] for image in content["images"]} - ids


def copied(data: DataConfig, root: Path) -> DataConfig:
    shutil.copytree(data.root, root)
    return replace(data, root=root)


@pytest.fixture
def mixed(tiny_recipe: Recipe, tmp_path: Path) -> Recipe:
    """The tiny scenes, of which every second one to train on has no labels."""
    data = copied(tiny_recipe.data, tmp_path / "mixed")
    unlabel(data.root / data.train_annotations)
    return replace(tiny_recipe, data=data)


@pytest.fixture
def bare(tiny_recipe: Recipe, tiny_teacher: Path, tmp_path: Path) -> Recipe:
    """The tiny scenes, of which none to train on has labels, with a teacher."""
    data = copied(tiny_recipe.data, tmp_path / "bare")
    unlabel(data.root / data.train_annotations, every=True)
    return replace(tiny_recipe, data=data, teacher=tiny_teacher)


def step(recipe: Recipe, teaching: Teaching | None, batch: Batch) -> tuple[dict[str, Tensor], Any]:
    """The terms of a batch, and the gradient of those from labels on logits and boxes."""
    student = build_student(recipe, NAMES).train()
    terms = compute_terms(student, teaching, batch, recipe, recipe.weights)
    own = torch.stack([terms.values[name] for name in HEADS[recipe.model.head].terms]).sum()
    said = terms.output.per_location()
    parts = [said["cls_logits"], said.get("deltas", said["boxes"])]
    return terms.values, torch.autograd.grad(own, parts, retain_graph=True)


@pytest.mark.parametrize("head", get_args(HeadName))
@pytest.mark.parametrize("groups", [None, 2])
def test_a_batch_that_has_both(
    tiny_recipe: Recipe,
    mixed_root: Path,
    tiny_detector: Callable[..., Detector],
    tmp_path: Path,
    head: HeadName,
    groups: int | None,
) -> None:
    bins = head == "gfl"
    data = copied(replace(tiny_recipe.data, root=mixed_root), tmp_path / "data")
    path = data.root / data.train_annotations
    whole = json.loads(path.read_text())
    labelled = unlabel(path)
    recipe = replace(
        tiny_recipe,
        data=replace(data, size=replace(data.size, short_side=64, long_side=96)),
        model=replace(tiny_recipe.model, head=head, norm_eval=True),
        weights=LossWeights(softmax=0.75, ld=bins * 0.5, ld_region=bins * 0.25),
        images_per_group=groups,
    )
    teacher = tiny_detector(NAMES, seed=5)
    with torch.no_grad():
        teacher.head.cls.weight *= 30
        teacher.head.cls.bias += 3
    teaching = live_teaching(teacher.requires_grad_(False))
    dataset = training_data(recipe.data, recipe.seed)
    samples = [dataset[0, n] for n in (0, 2, 1, 3, 4, 5, 7, 9)]  # a group of none that is labelled
    known = [sample.image_id in labelled for sample in samples]
    assert known == [False, False, True, True, False, True, True, True]
    canvas = collate(samples, dataset.size).canvases[0]
    samples = [replace(sample, canvas=canvas) for sample in samples]
    batch = collate(samples, dataset.size)
    found, gradients = step(recipe, teaching, batch)

    rows = torch.tensor(known)
    for gradient in gradients:
        assert not gradient[~rows].any() and gradient[rows].abs().sum() > 0
    chosen = [replace(x, labelled=None) for x, own in zip(samples, known, strict=True) if own]
    alone = replace(recipe, images_per_group=None)
    expected, _ = step(alone, None, collate(chosen, dataset.size))
    if groups is None:  # else images are divided by the positives of other groups
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=name)
    distilled = set(found) - set(expected)
    assert {"binary", "iou", "softmax"} <= distilled

    # What is distilled is as if the teacher had drawn the boxes of the others.
    truth = with_stand_ins(batch.ground_truth, teaching(batch), batch.sizes)
    assert (truth.labels[~rows] >= 0).any(dim=1).all()
    drawn, _ = step(recipe, teaching, replace(batch, ground_truth=truth))
    for name in distilled:
        assert torch.equal(found[name], drawn[name]) and found[name] > 0, name
    path.write_text(json.dumps(whole))
    assert training_data(recipe.data, recipe.seed)[0, 0].labelled is None


def weights_of(out: Path) -> dict[str, Tensor]:
    return load_file(out / STUDENT)


def assert_equal(one: Path, other: Path) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_a_teacher_they_are_as_if_absent(mixed: Recipe) -> None:
    first = train(mixed, progress=False).out
    data = mixed.data
    path = data.root / data.train_annotations
    content = json.loads(path.read_text())
    content["images"] = [image for image in content["images"] if image.get("labelled", True)]
    path.write_text(json.dumps(content))
    assert_equal(first, train(replace(mixed, out=mixed.out / "twice"), progress=False).out)


def test_a_teacher_alone(
    bare: Recipe,
    capsys: pytest.CaptureFixture[str],
    stop_at_first_state: Callable[[Callable[[], object]], None],
) -> None:
    """Answers stored or given anew, in one go or two, at once or in parts: the same student."""
    optimisation = replace(bare.optimisation, optimizer="sgd")
    model = replace(bare.model, norm_eval=True)
    bare = replace(bare, optimisation=optimisation, model=model)
    out = train(bare, progress=True).out
    told = capsys.readouterr().out
    assert "data: 24 images, 24 of them not labelled (val 8), 6 classes that the teacher" in told
    lines = [line["unweighted"] for line in read_log(out) if "unweighted" in line]
    for line in lines:
        assert line["binary"] > 0 and line["iou"] > 0
        assert line["qfl"] == line["giou"] == line["dfl"] == 0
    cut = replace(bare, out=bare.out / "cut")
    stop_at_first_state(lambda: train(cut, progress=False))
    assert_equal(out, train(cut, resume=True, progress=False).out)
    live = replace(bare, data=replace(bare.data, cache=False), out=bare.out / "live")
    parts = replace(live, accumulate=2, out=bare.out / "parts")
    for recipe in (live, parts):
        found = weights_of(train(recipe, progress=False).out)
        for name, value in weights_of(out).items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_no_labels_and_no_teacher(bare: Recipe, mixed: Recipe) -> None:
    with pytest.raises(InputError, match="no image is labelled; expected some that are, or a tea"):
        train(replace(bare, teacher=None), progress=False)
    assert not bare.out.exists()
    twin = train(twin_of(replace(mixed, teacher=bare.teacher)), progress=False)
    assert twin.metrics is not None


def test_a_teacher_knows_all_classes_of_a_set_without_labels(bare: Recipe) -> None:
    path = bare.data.root / bare.data.train_annotations
    content = json.loads(path.read_text())
    content["categories"].append({"id": 99, "name": "unheard of"})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no class unheard of"):
        train(bare, progress=False)


def test_a_preset_that_fits_itself_to_the_data(bare: Recipe, tmp_path: Path) -> None:
    """There is no box that says how large objects are."""
    plain = to_plain(bare.data)
    fields = ("root", "train_images", "train_annotations", "val_images", "val_annotations")
    words = [f"--data.{name.replace('_', '-')}={plain[name]}" for name in fields]
    words += "--model.strides 8 16 32 --steps 2 --batch-size 2 --teacher-check 0".split()
    words += "--device cpu --data.workers 0".split()
    out = tmp_path / "fitted"
    run(["train", "custom-small", *words, f"--teacher={bare.teacher}", f"--out={out}"])
    assert (out / STUDENT).exists()

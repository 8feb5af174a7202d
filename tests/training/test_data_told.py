"""What is told of a data set before it is used, and which boxes nothing learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from PIL import ExifTags, Image

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.models.supervision import assign
from bckd.recipes import DataConfig, Recipe
from bckd.structures import GroundTruth
from bckd.system.distributed import (
    apart,
    joined_lists,
    mean_over_processes,
    process_count,
)
from bckd.system.errors import InputError
from bckd.training.data import (
    check_same_classes,
    training_annotations,
    training_data,
    validation_data,
)
from bckd.training.learnt_boxes import tell_unlearnt
from bckd.training.trainer import train

Told = Callable[[], list[str]]


@pytest.fixture
def data(custom_root: Path) -> DataConfig:
    return DataConfig(
        root=custom_root,
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(48, 80),
    )


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """The lines told since it was asked last."""
    return lambda: capsys.readouterr().out.splitlines()


def change(path: Path, work: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    work(content)
    path.write_text(json.dumps(content))


def test_one_file_for_both_is_told_of_once(
    data: DataConfig, tiny_recipe: Recipe, told: Told
) -> None:
    path = data.root / data.train_annotations
    same = replace(data, val_images=data.train_images, val_annotations=data.train_annotations)
    change(path, lambda content: content["annotations"][0].update(area=0))
    train(replace(tiny_recipe, data=same, steps=1), progress=False)
    lines = told()
    assert sum("areas that the box can't have" in line for line in lines) == 1
    assert sum("trained on too" in line for line in lines) == 1


def test_what_is_not_learnt(data: DataConfig, told: Told) -> None:
    path = data.root / data.train_annotations

    def spoil(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "parts"})
        rows = content["annotations"]
        rows[:] = [row for row in rows if row["image_id"] != 14 or row.get("iscrowd")]
        rows[0]["bbox"] = [8, 8, 0.5, 40]

    change(path, spoil)
    training_data(data, seed=0)
    lines = told()
    unlearnt = "classes without a box to learn from (2): 'parts' (id 0), 'nut' (id 3)"
    assert f"{path}: {unlearnt}" in lines  # of the nuts a crowd alone is left
    assert f"{path}: boxes below a pixel are not learnt (1): entry 1" in lines
    left_out = "are left out of training (1)"
    assert f"{path}: images without a box {left_out}: empty.png" in lines
    crowd = "with nothing but crowd regions or boxes below a pixel"
    assert f"{path}: images {crowd} {left_out}: crowd.png" in lines


def test_without_a_teacher_some_images_have_labels(data: DataConfig, told: Told) -> None:
    path = data.root / data.train_annotations
    refused = "no image is labelled; expected some that are, or a teacher to learn from alone"

    def unlabel(names: set[str], content: dict[str, Any]) -> None:
        marked = [row for row in content["images"] if row["file_name"] in names]
        for row in marked:
            row["labelled"] = False
        ids = {row["id"] for row in marked}
        rows = content["annotations"]
        rows[:] = [row for row in rows if row["image_id"] not in ids]

    change(path, partial(unlabel, {"tall.png"}))
    left = training_annotations(data, taught=False)
    assert "tall.png" not in {image.file_name for image in left.images}
    line = f"{path}: images that are not labelled are left out, as there is no teacher (1): tall"
    assert [x for x in told() if x.startswith(line)]
    whole = training_annotations(data)
    assert {x.file_name for x in whole.training_images} == {
        *(x.file_name for x in left.training_images),
        "tall.png",
    }
    for image in left.images:
        ours, theirs = left.objects_of(image.id), whole.objects_of(image.id)
        assert torch.equal(ours.boxes, theirs.boxes) and torch.equal(ours.labels, theirs.labels)
    assert left.content["annotations"] == whole.content["annotations"]
    change(path, lambda content: content.pop("annotations"))
    assert len(training_data(data, seed=0)) == 5
    with pytest.raises(InputError, match=refused):
        training_annotations(data, taught=False)


def test_images_to_evaluate_on_are_labelled(data: DataConfig) -> None:
    def unlabel(content: dict[str, Any]) -> None:
        content["images"][2]["labelled"] = False

    change(data.root / data.val_annotations, unlabel)
    with pytest.raises(InputError, match=r"marked as not labelled \(1\): c.png; expected labels"):
        validation_data(data)


def test_nothing_is_told_of_validation_images_as_they_should_be(
    data: DataConfig, told: Told
) -> None:
    validation_data(data)
    assert told() == []


def test_no_object_to_find(data: DataConfig, told: Told) -> None:
    path = data.root / data.val_annotations
    change(path, lambda content: content["annotations"].clear())
    validation_data(data)
    assert told() == [f"{path}: there is no object to find, so AP is unknown"]


def test_images_that_are_there_twice_and_turned(data: DataConfig, told: Told) -> None:
    folder = data.root / "val"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.new("RGB", (100, 64)).save(folder / "a.png", exif=exif)
    shutil.copy(folder / "a.png", folder / "e.png")
    entry = {"id": 99, "file_name": "e.png", "width": 100, "height": 64}
    change(data.root / data.val_annotations, lambda content: content["images"].append(entry))
    validation_data(data)
    turned, twice = told()
    assert (
        "turned as their EXIF orientation says" in turned and f"(2): {folder / 'a.png'}" in turned
    )
    assert twice.endswith(f"there twice (1): {folder / 'e.png'} as {folder / 'a.png'}")


def test_images_that_are_trained_on_too(data: DataConfig, told: Told) -> None:
    training = training_data(data, seed=0)
    told()
    check_same_classes(training, validation_data(data))
    assert told() == []
    shutil.copy(data.root / "train" / "wide.png", data.root / "val" / "a.png")
    change(
        data.root / data.val_annotations,
        lambda content: content["images"][0].update(width=96, height=64),
    )
    check_same_classes(training, validation_data(data))
    (line,) = told()
    assert "trained on too" in line and "a.png as " in line and "(1)" in line


def test_what_is_learnt_and_what_is_judged(data: DataConfig, told: Told) -> None:
    def without(category: int) -> Callable[[dict[str, Any]], None]:
        def leave_out(content: dict[str, Any]) -> None:
            rows = content["annotations"]
            rows[:] = [row for row in rows if row["category_id"] != category]

        return leave_out

    path = data.root / data.val_annotations
    change(data.root / data.train_annotations, without(7))
    change(path, without(20))
    training, validation = training_data(data, seed=0), validation_data(data)
    told()
    check_same_classes(training, validation)
    unlearnt, unjudged = told()
    assert unlearnt.startswith(f"{path}: classes that are judged with no box to learn them from")
    assert unlearnt.endswith("(1): washer")
    assert "classes that are learnt with no box to judge them by" in unjudged
    assert unjudged.endswith("(1): screw")


def test_classes_are_matched_by_name(data: DataConfig, told: Told) -> None:
    def swap(content: dict[str, Any]) -> None:
        ids = {3: 20, 7: 3, 20: 41}  # nut, washer, screw
        for row in content["categories"]:
            row["id"] = ids[row["id"]]
        for row in content["annotations"]:
            row["category_id"] = ids[row["category_id"]]

    training, before = training_data(data, seed=0), validation_data(data)
    change(data.root / data.val_annotations, swap)
    matched = check_same_classes(training, validation_data(data))
    assert matched.annotations.class_names == training.annotations.class_names
    assert matched.annotations.category_ids == (20, 3, 41)
    for index in range(len(matched)):
        sample, expected = matched.sample(index, False), before.sample(index, False)
        assert torch.equal(sample.labels, expected.labels)


def test_a_class_that_the_validation_does_not_list(data: DataConfig, told: Told) -> None:
    def leave_out(content: dict[str, Any]) -> None:
        content["categories"] = [x for x in content["categories"] if x["name"] != "screw"]
        content["annotations"] = [x for x in content["annotations"] if x["category_id"] != 20]

    change(data.root / data.val_annotations, leave_out)
    training = training_data(data, seed=0)
    told()
    matched = check_same_classes(training, validation_data(data))
    assert matched.annotations.category_ids == (3, 7, None)
    assert told()[0].endswith("classes that are learnt and that it does not list (1): screw")


@pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "atss"])
def test_boxes_that_no_location_learns(
    data: DataConfig, told: Told, tiny_detector: Callable[..., Detector], head: str
) -> None:
    """As many as the assigner leaves without a positive of the detector's own output."""
    path = data.root / data.train_annotations
    tiny = {"id": 50, "image_id": 11, "category_id": 3, "bbox": [61.2, 41.3, 2, 2]}
    change(path, lambda content: content["annotations"].append(tiny))
    training = training_data(data, seed=0)
    detector = tiny_detector(training.annotations.class_names, head=head)
    told()
    tell_unlearnt(detector.config, training)
    lines = told()

    expected = 0
    for index in range(len(training)):
        batch = training.batch([index])
        truth: GroundTruth = batch.ground_truth
        with torch.no_grad():
            found = assign(head, detector(batch.images), truth, batch.padded_sizes)
        taught = {tuple(box) for box in found.boxes[found.positive].tolist()}
        expected += sum(tuple(box) not in taught for box in truth.boxes[truth.objects].tolist())
    if expected:
        assert f"boxes that no location learns ({expected}), with strides 8, 16, 32" in lines[0]
        assert "1.5x1.5 pixels on wide.png" in lines[0]
    else:
        assert head == "retinanet" and lines == []  # whose closest anchor is always positive


@pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "atss"])
def test_it_asks_no_other_process(
    data: DataConfig, tmp_path: Path, tiny_detector: Callable[..., Detector], head: str
) -> None:
    """Of a run on GPUs processes talk by these alone: what lies on the CPU can't travel."""
    training = training_data(data, seed=0)
    config = tiny_detector(training.annotations.class_names, head=head).config
    meeting = f"file://{tmp_path}/meeting"
    dist.init_process_group("cuda:gloo", init_method=meeting, rank=0, world_size=1)
    try:
        with pytest.raises(RuntimeError, match="cpu"):
            mean_over_processes(torch.zeros(()))
        tell_unlearnt(config, training)
        with apart():
            assert process_count() == 1 and joined_lists([3]) == [3]
        with pytest.raises(RuntimeError, match="cpu"):  # together again
            mean_over_processes(torch.zeros(()))
    finally:
        dist.destroy_process_group()


def test_images_too_small_for_the_strides(
    data: DataConfig, told: Told, tiny_detector: Callable[..., Detector]
) -> None:
    training = training_data(replace(data, size=ImageSize(16, 16)), seed=0)
    told()
    tell_unlearnt(tiny_detector(training.annotations.class_names).config, training)
    (line,) = told()
    assert "boxes that no location learns (3), with strides 8, 16, 32" in line

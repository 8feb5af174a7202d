"""The teacher's answers: live, or computed once and looked up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, collate
from bckd.datasets.scene_drawing import class_names
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.teachers.targets import TeacherTargets, feature_bytes, live_teaching
from bckd.training.data import training_data
from bckd.training.teacher import make_teaching
from bckd.zoo.checkpoints import load_detector

FIELDS = ("cls_logits", "boxes", "box_logits")


@pytest.fixture
def teacher(tiny_teacher: Path) -> Detector:
    return load_detector(tiny_teacher).detector.requires_grad_(False)


@pytest.fixture
def training(tiny_recipe: Recipe) -> CocoDataset:
    return training_data(replace(tiny_recipe.data, first_train=9), seed=1)


def mixed_batch(training: CocoDataset) -> Batch:
    keys = [(7, False), (0, True), (3, True), (7, True), (8, False)]
    return collate([training.sample(*key) for key in keys], training.size)


def test_looked_up_answers_are_those_of_a_live_teacher(
    teacher: Detector, training: CocoDataset
) -> None:
    targets = TeacherTargets(teacher, training, batch_size=4, progress=False)
    batch = mixed_batch(training)
    stored = targets(batch)
    with torch.no_grad():
        live = live_teaching(teacher)(batch)
    for name in FIELDS:
        torch.testing.assert_close(getattr(stored, name), getattr(live, name), atol=1e-5, rtol=1e-5)
    assert stored.locations.levels == live.locations.levels
    assert torch.equal(stored.locations.centres, live.locations.centres)
    assert stored.quality is None and stored.features == ()
    assert not torch.equal(stored.cls_logits[0], stored.cls_logits[3]), "plain and flipped differ"


def test_maps_are_kept_where_they_are_asked_for(teacher: Detector, training: CocoDataset) -> None:
    targets = TeacherTargets(teacher, training, batch_size=4, progress=False, features=True)
    batch = mixed_batch(training)
    with torch.no_grad():
        live = live_teaching(teacher)(batch)
    for stored, map_ in zip(targets(batch).features, live.features, strict=True):
        torch.testing.assert_close(stored, map_, atol=1e-5, rtol=1e-5)
    assert sum(x.nbytes for x in targets.features) == feature_bytes(teacher, training)


def test_two_tables_are_bit_identical(teacher: Detector, training: CocoDataset) -> None:
    one, two = (TeacherTargets(teacher, training, progress=False) for _ in range(2))
    for name in FIELDS:
        assert torch.equal(one.values[name], two.values[name])
        assert len(one.values[name]) == 2 * len(training)
        assert not one.values[name].requires_grad


def test_images_of_mixed_sizes_are_refused(
    custom_root: Path, tiny_detector: Callable[..., Detector]
) -> None:
    annotations = read_annotations(custom_root / "annotations" / "instances_train.json")
    mixed = CocoDataset(custom_root / "train", annotations, ImageSize(64, 96))
    with pytest.raises(ValueError, match="one size"):
        TeacherTargets(tiny_detector(annotations.class_names), mixed, progress=False)


@pytest.mark.parametrize(
    ("cache", "size", "two_canvases", "stored"),
    [
        (True, ImageSize(48, 48), False, True),
        (True, ImageSize(48, 48), True, False),
        (False, ImageSize(48, 48), False, False),
        (True, ImageSize(48, 96), False, False),
        (False, ImageSize(48, 96), False, False),
    ],
)
def test_answers_are_stored_where_small_images_of_one_size_are(
    tiny_recipe: Recipe,
    tiny_teacher: Path,
    tmp_path: Path,
    cache: bool,
    size: ImageSize,
    two_canvases: bool,
    stored: bool,
) -> None:
    """Two answers an image: of images kept in memory, all of one size once resized.

    A batch on one of two canvases may have more locations than these.
    """
    write_pictures(tmp_path, [(40, 40), (60, 60)] if size.long_side == 48 else [(40, 60), (60, 40)])
    data = replace(tiny_recipe.data, root=tmp_path, cache=cache, size=size)
    data = replace(data, two_canvases=two_canvases)
    recipe = replace(tiny_recipe, data=data, teacher=tiny_teacher)
    training = training_data(data, 0)
    found = make_teaching(recipe, training, torch.device("cpu"), progress=False)
    assert isinstance(found, TeacherTargets) == stored


def write_pictures(root: Path, sizes: list[tuple[int, int]]) -> None:
    """One box an image, in the scenes' classes."""
    (root / "train").mkdir()
    (root / "annotations").mkdir()
    images, annotations = [], []
    for n, (width, height) in enumerate(sizes, 1):
        images.append({"id": n, "file_name": f"{n}.png", "width": width, "height": height})
        annotations.append({"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20]})
        Image.new("RGB", (width, height)).save(root / "train" / f"{n}.png")
    categories = [{"id": n, "name": name} for n, name in enumerate(class_names("standard"), 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations" / "instances_train.json"
    path.write_text(json.dumps(content), encoding="utf-8")

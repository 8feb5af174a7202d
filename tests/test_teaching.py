"""The teacher's answers: live, or computed once and looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.checkpoints import load_detector
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, ImageSize, collate
from bckd.models.detector import Detector
from bckd.preparation import training_data
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.teaching import TeacherTargets, live_teaching

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

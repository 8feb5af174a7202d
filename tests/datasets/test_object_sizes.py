"""How large objects are after resizing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.object_sizes import object_sizes, resized_sides
from bckd.image_size import ImageSize


def dataset(root: Path) -> Annotations:
    return read_annotations(root / "annotations/instances_train.json", root / "train")


def test_sizes_are_those_that_training_sees(custom_root: Path) -> None:
    annotations, size = dataset(custom_root), ImageSize(48, 64)
    seen = CocoDataset(custom_root / "train", annotations, size)
    objects = [seen.resized_objects(n) for n in range(len(seen))]
    boxes = np.concatenate([x.boxes[~x.crowd].numpy() for x in objects])
    sides, labels = resized_sides(annotations, size)
    assert sides == pytest.approx(boxes[:, 2:] - boxes[:, :2], rel=1e-5)
    assert labels.tolist() == [n for x in objects for n in x.labels[~x.crowd].tolist()]


def test_each_class_has_its_counts_and_quantiles(custom_root: Path) -> None:
    """The nut's crowd region is none of its boxes, nor the washer without a width."""
    nut, washer, screw = object_sizes(dataset(custom_root), ImageSize(1000, 1000, 1))
    assert (nut.name, nut.boxes, nut.images) == ("nut", 2, 2)
    assert (washer.name, washer.boxes, screw.boxes) == ("washer", 1, 2)
    scale = 1000 / 96
    assert washer.small == washer.median == pytest.approx(math.sqrt(40 * 30) * scale, rel=0.01)


def test_a_class_without_boxes_has_no_sizes(custom_root: Path) -> None:
    path = custom_root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 90, "name": "bolt"})
    path.write_text(json.dumps(content))
    bolt = object_sizes(dataset(custom_root), ImageSize())[-1]
    assert (bolt.name, bolt.boxes, bolt.images) == ("bolt", 0, 0) and math.isnan(bolt.median)


def test_images_of_a_class_are_counted_without_crowd_regions(custom_root: Path) -> None:
    path = custom_root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    row = {"category_id": 3, "bbox": [1, 1, 20, 20]}
    content["annotations"] = [
        {"id": 1, "image_id": 11, **row, "iscrowd": 1},
        {"id": 2, "image_id": 11, **row, "category_id": 7},
        {"id": 3, "image_id": 12, **row},
        {"id": 4, "image_id": 12, **row},
    ]
    path.write_text(json.dumps(content))
    found = {x.name: (x.boxes, x.images) for x in object_sizes(dataset(custom_root), ImageSize())}
    assert found == {"nut": (2, 1), "washer": (1, 1), "screw": (0, 0)}

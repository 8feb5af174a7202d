"""Tiny inputs that several tests share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bckd.datasets.annotations import Annotations
from bckd.datasets.scene_drawing import class_names
from bckd.datasets.scenes import write_scenes
from bckd.geometry import distances_to_boxes, grid
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.recipes import DataConfig, Optimisation, Recipe
from bckd.structures import Assignment, DenseOutput, Locations
from bckd.training import run as running
from bckd.zoo.checkpoints import save_detector

torch.set_num_threads(1)  # tiny inputs: more threads only wait for one another


# Files whose tests start processes, browsers or long traces. On several workers they go first, so
# that none is left alone with one of them at the end.
LONG = (
    "test_distributed.py",
    "test_jupyterlab.py",
    "test_exporting.py",
    "test_onnx_client.py",
    "test_runner.py",
    "test_demo.py",
    "test_groups.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker, which begins with its part of the list, a share of the long files."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    short = [item for item in items if item.path.name not in LONG]
    parts: list[list[pytest.Item]] = []
    for worker in range(workers):
        own = LONG[worker::workers]
        part = [item for name in own for item in items if item.path.name == name]
        room = max(len(items) // workers - len(part), 0)
        parts.append(part + short[:room])
        short = short[room:]
    items[:] = [item for part in parts for item in part] + short


def dense_output(
    seed: int = 0,
    num_images: int = 2,
    num_classes: int = 3,
    shapes: Sequence[tuple[int, int]] = ((4, 5), (2, 3)),
    strides: Sequence[int] = (8, 16),
    bins: int = 6,
) -> DenseOutput:
    """Random output whose `cls_logits` and `box_logits` are leaves that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    locations = grid(shapes, strides)
    count = len(locations.centres)
    cls_logits = torch.randn(num_images, count, num_classes, generator=generator)
    box_logits = torch.randn(num_images, count, 4, bins, generator=generator)
    return output_of(cls_logits, box_logits, locations)


def output_of(cls_logits: Tensor, box_logits: Tensor, locations: Locations) -> DenseOutput:
    """Output around given logits; boxes follow from the side distributions."""
    cls_logits = cls_logits.detach().clone().requires_grad_()
    box_logits = box_logits.detach().clone().requires_grad_()
    mean = (box_logits.softmax(-1) * torch.arange(box_logits.shape[-1])).sum(-1)
    boxes = distances_to_boxes(
        locations.centres.expand(len(mean), -1, -1), mean * locations.strides[:, None]
    )
    return DenseOutput(cls_logits, boxes, locations, box_logits=box_logits)


def assignment_of(
    output: DenseOutput, positives: dict[tuple[int, int], int], region: Tensor | None = None
) -> Assignment:
    """Assignment by hand: {(image, location): label}; target boxes are drawn around centres."""
    num_images, count, num_classes = output.cls_logits.shape
    labels = torch.full((num_images, count), num_classes)
    boxes = torch.zeros(num_images, count, 4)
    for order, ((image, location), label) in enumerate(positives.items()):
        labels[image, location] = label
        stride = output.locations.strides[location]
        sides = stride * (torch.tensor([1.3, 0.6, 2.2, 1.75]) + 0.1 * order)
        boxes[image, location] = distances_to_boxes(output.locations.centres[location], sides)
    positive = labels < num_classes
    everywhere = torch.ones_like(positive)
    return Assignment(
        labels=labels,
        boxes=boxes,
        valid=everywhere,
        counted=everywhere,
        positive=positive,
        num_positives=positive.sum(1).clamp(min=1).sum().float(),
        localisation_region=region,
    )


@pytest.fixture(name="dense_output")
def _dense_output() -> Callable[..., DenseOutput]:
    return dense_output


@pytest.fixture(name="output_of")
def _output_of() -> Callable[..., DenseOutput]:
    return output_of


@pytest.fixture(name="assignment_of")
def _assignment_of() -> Callable[..., Assignment]:
    return assignment_of


TINY_MODEL = DetectorConfig(
    backbone="small_resnet",
    pretrained=False,
    width=4,
    frozen_stages=0,
    norm_eval=False,
    channels=8,
    strides=(8, 16, 32),
    head_convs=1,
    head_groups=2,
    reg_max=8,
    anchor_scale=3.0,
)

# (file, width, height, [(category, box as xywh, further fields)]); the last box of an image
# is drawn on top. Fields that small data sets often lack are lacking here and there.
CUSTOM_CATEGORIES = {20: "screw", 3: "nut", 7: "washer"}
CUSTOM_TRAIN = [
    ("wide.png", 96, 64, [(3, [8, 8, 30, 40], {}), (7, [50, 20, 40, 30], {"area": 1000})]),
    ("tall.png", 60, 90, [(20, [10, 30, 40, 45], {"iscrowd": 0})]),
    ("empty.png", 80, 60, []),
    ("crowd.png", 90, 70, [(3, [0, 0, 45, 70], {"iscrowd": 1}), (3, [52, 12, 30, 30], {})]),
    ("flat.png", 64, 64, [(7, [5, 5, 0, 20], {}), (20, [20, 18, 36, 36], {})]),
]
CUSTOM_VAL = [
    ("a.png", 100, 64, [(3, [10, 6, 40, 40], {}), (20, [60, 20, 33, 40], {})]),
    ("b.png", 50, 80, [(7, [4, 10, 40, 50], {"iscrowd": 0, "area": 1900.5})]),
    ("c.png", 70, 70, []),
    ("d.png", 96, 72, [(3, [0, 0, 40, 72], {"iscrowd": 1}), (7, [50, 30, 30, 30], {})]),
]


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 scenes to train on, 8 to evaluate on; not to be changed."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(root, train=24, val=8, progress=False)
    return root


@pytest.fixture(scope="session")
def default_scenes(scenes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scenes where the demo expects the 2000 and 400 of the benchmark."""
    root = tmp_path_factory.mktemp("default") / "scenes"
    shutil.copytree(scenes_root, root)
    record = json.loads((root / "scenes.json").read_text())
    (root / "scenes.json").write_text(json.dumps({**record, "train": 2000, "val": 400}))
    return root


@pytest.fixture
def tiny_recipe(scenes_root: Path, tmp_path: Path) -> Recipe:
    """Six steps of a detector of a few thousand parameters on the tiny scenes, at half size."""
    data = DataConfig(
        root=scenes_root,
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(short_side=64, long_side=64),
        workers=0,
        cache=True,
    )
    optimisation = Optimisation(
        optimizer="adamw", learning_rate=0.02, warmup_steps=2, schedule="cosine"
    )
    return Recipe(
        model=TINY_MODEL,
        data=data,
        optimisation=optimisation,
        out=tmp_path / "run",
        steps=6,
        batch_size=4,
        precision="float32",
        device="cpu",
        log_every=1,
        checkpoint_every=3,
        teacher_check=0,  # teachers here have random weights
    )


def tiny_detector(
    names: Sequence[str] = class_names("standard"), seed: int = 0, **changes: Any
) -> Detector:
    """A detector of random weights in eval mode, for the scenes unless classes are named."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector(replace(TINY_MODEL, **changes), tuple(names)).eval()


@pytest.fixture(name="tiny_detector", scope="session")
def _tiny_detector() -> Callable[..., Detector]:
    return tiny_detector


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a somewhat wider detector for the scenes that scores well above its prior."""
    detector = tiny_detector(seed=5, width=8, channels=16)
    with torch.no_grad():
        detector.head.cls.bias += 3.0
        detector.head.cls.weight *= 20.0
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_detector(path, detector, ImageSize(64, 64), {})
    return path


def write_custom(root: Path) -> None:
    """A data set of three classes with images of mixed sizes, as a user might bring it."""
    (root / "annotations").mkdir(parents=True)
    for split, rows in (("train", CUSTOM_TRAIN), ("val", CUSTOM_VAL)):
        (root / split).mkdir()
        images, annotations = [], []
        for image_id, (name, width, height, objects) in enumerate(rows, 11):
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            pixels = np.random.default_rng(image_id).integers(0, 90, (height, width, 3), np.uint8)
            for category, (x, y, w, h), further in objects:
                pixels[y : y + h, x : x + w, category % 3] = 250
                number = len(annotations) + 1
                row = {"id": number, "image_id": image_id, "category_id": category}
                annotations.append({**row, "bbox": [x, y, w, h], **further})
            Image.fromarray(pixels).save(root / split / name)
        categories = [{"id": key, "name": name} for key, name in CUSTOM_CATEGORIES.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def custom_root(tmp_path: Path) -> Path:
    """The custom data set, for a test to read or to spoil."""
    root = tmp_path / "custom"
    write_custom(root)
    return root


@pytest.fixture(scope="session")
def mixed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images in train/, wide and tall of all sizes; half have a single small object."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "train").mkdir()
    (root / "annotations").mkdir()
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for n in range(1, 17):
        height, width = int(generator.integers(50, 110)), int(generator.integers(50, 110))
        pixels = generator.integers(0, 90, (height, width, 3), np.uint8)
        for _ in range(1 + 2 * (n % 2)):
            side = int(generator.integers(8, 14) if n % 2 == 0 else generator.integers(20, 45))
            x, y = (int(generator.integers(0, room - side)) for room in (width, height))
            label = int(generator.integers(1, 4))
            pixels[y : y + side, x : x + side, label - 1] = 250
            row = {"id": len(annotations) + 1, "image_id": n, "category_id": label}
            annotations.append({**row, "bbox": [x, y, side, side]})
        images.append({"id": n, "file_name": f"{n}.png", "width": width, "height": height})
        Image.fromarray(pixels).save(root / "train" / f"{n}.png")
    categories = [{"id": n, "name": name} for n, name in enumerate("rgb", 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for name in ("train", "val"):  # both are the same images
        path = root / "annotations" / f"instances_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return root


def perfect_results(annotations: Annotations) -> list[dict[str, Any]]:
    """The ground truth as a detector that misses nothing would report it."""
    return [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "bbox": list(row["bbox"]),
            "score": 0.9,
        }
        for row in annotations.content["annotations"]
        if not row["iscrowd"]
    ]


@pytest.fixture(name="perfect_results", scope="session")
def _perfect_results() -> Callable[[Annotations], list[dict[str, Any]]]:
    return perfect_results


class _Stopped(Exception):
    pass


@pytest.fixture
def stop_at_first_state() -> Callable[[Callable[[], object]], None]:
    """`stop_at_first_state(work)`: do what trains, until its first resume state is on disk."""

    def stop(work: Callable[[], object]) -> None:
        save = running.save_state

        def save_and_stop(*state: object) -> None:
            save(*state)
            raise _Stopped

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "save_state", save_and_stop)
            with pytest.raises(_Stopped):
                work()

    return stop

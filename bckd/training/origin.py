"""What a run will say in its student's file of how it was made."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import Metrics
from bckd.models.adopted import Adopted
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.models.heads import HEADS
from bckd.recipes import Recipe
from bckd.system.distributed import process_count
from bckd.system.files import finite_or_none
from bckd.system.values import to_plain
from bckd.training.run_contents import digest
from bckd.training.run_log import read_log
from bckd.version import __version__
from bckd.weights.published import PRETRAINED
from bckd.zoo.made import Made, Part, Point, Source
from bckd.zoo.torchvision_detectors import TorchvisionDetector
from bckd.zoo.unfinished import weights_of_run

POINTS = 40  # of the curve, at most as many of the loss and of AP
MODULE = "a module of one's own"


def origin_of(
    recipe: Recipe,
    contents: dict[str, str],
    training: CocoDataset,
    validation: CocoDataset,
    student: DenseDetector,
) -> Made:
    """How the student of a run is being made, before its first step.

    Args:
        contents: see `contents_of`.
    """
    data, device = recipe.data, next(student.parameters()).device
    paths = (data.train_annotations, data.val_annotations)
    train, val = (Source(_name(path), digest(data.root / path)) for path in paths)
    plain = _without_folders(to_plain(recipe))
    del plain["out"]
    return Made(
        detector=_in_words(student),
        recipe=plain,
        steps=0,
        train=_part(train, training.annotations),
        val=_part(val, validation.annotations),
        metrics={},
        curve=(),
        versions={
            "bckd": __version__,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "python": platform.python_version(),
        },
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processes=process_count(),
        teacher=_source(recipe.teacher, contents.get("teacher")),
        start=_source(recipe.start, contents.get("start")),
        own_module=not isinstance(student, Detector | TorchvisionDetector),
    )


def _in_words(student: DenseDetector) -> str:
    if isinstance(student, Detector):
        return f"{HEADS[student.config.head].title} on {student.config.backbone}"
    if isinstance(student, TorchvisionDetector):
        return f"torchvision's {student.config.name}"
    return type(student.network if isinstance(student, Adopted) else student).__name__


def at_step(origin: Made, out: Path, steps: int, metrics: Metrics) -> Made:
    """The same once the student has taken so many steps, with the curve of the run's log."""
    lines = [line for line in read_log(out) if line["step"] < steps]
    losses = [Point(x["step"] + 1, loss=x["loss"]) for x in lines if "loss" in x]
    scored = [Point(x["step"] + 1, AP=x["metrics"].get("AP")) for x in lines if "metrics" in x]
    said = finite_or_none(asdict(metrics))
    scored = [x for x in scored if x.step != steps and x.AP is not None]
    last = [] if said["AP"] is None else [Point(steps, AP=said["AP"])]
    curve = sorted([*_thinned(losses), *_thinned([*scored, *last])], key=lambda x: x.step)
    return replace(origin, steps=steps, metrics=said, curve=tuple(curve))


def _thinned(points: list[Point]) -> list[Point]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    return [points[n] for n in np.linspace(0, len(points) - 1, POINTS).round().astype(int)]


def _part(source: Source, annotations: Annotations) -> Part:
    """The images and boxes that are there; crowd regions do not count."""
    boxes = annotations.truth.boxes
    ids = [key for key, _ in annotations.truth.categories]
    numbers = np.bincount(boxes.labels[~boxes.crowd], minlength=len(ids)).tolist()
    count = dict(zip(ids, numbers, strict=True))
    pairs = zip(annotations.class_names, annotations.category_ids, strict=True)
    objects = {name: 0 if key is None else count[key] for name, key in pairs}
    return Part(source, len(annotations.images), objects)


def _source(path: Path | None, content: str | None) -> Source | None:
    """A file of weights by its name and content; a folder stands for its newest weights."""
    if path is None:
        return None if content is None else Source(MODULE, content)
    if str(path) in PRETRAINED and not path.exists():
        cached = Path(torch.hub.get_dir()) / "checkpoints" / PRETRAINED[str(path)].file_name
        return Source(str(path), digest(cached))
    file = weights_of_run(path) if path.is_dir() else path
    name = f"{path.resolve().name}/{file.name}" if path.is_dir() else path.name
    return Source(name, digest(file))


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _without_folders(plain: Any) -> Any:
    """The same values, each path that leads out of the working folder cut down to its name."""
    if isinstance(plain, dict):
        return {key: _without_folders(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_without_folders(value) for value in plain]
    if not isinstance(plain, str):
        return plain
    path, windows = PurePosixPath(plain), PureWindowsPath(plain)
    if path.is_absolute() or ".." in path.parts or plain.startswith("~"):
        return path.name
    return windows.name if windows.drive or ".." in windows.parts else plain

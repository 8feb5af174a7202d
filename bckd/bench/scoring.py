"""Evaluation: average precision of detections on a set of val2017's size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bckd.bench.photographs import COCO_SHAPES, write_instances
from bckd.bench.results import Line
from bckd.bench.subject import Subject
from bckd.bench.timing import timed
from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import score

PART = "evaluation"
IMAGES = 5000  # as many as val2017 has
FEWER = 250  # where a CPU is measured
DETECTIONS = 100  # of an image
_HOST = torch.device("cpu")  # which scores, whatever detects
_REPEAT = 3  # at most


def time_scoring(subject: Subject) -> Iterator[Line]:
    """A line of detections that are scored."""
    images = FEWER if subject.device.type == "cpu" else IMAGES
    repeat = min(subject.repeat, _REPEAT)
    with tempfile.TemporaryDirectory(prefix="bckd-bench-") as place:
        path = Path(place) / "instances.json"
        write_instances(path, list(islice(cycle(COCO_SHAPES), images)), subject.class_names)
        annotations = read_annotations(path)
    results = random_results(annotations, DETECTIONS)
    scoring = timed(lambda: score(results, annotations), _HOST, repeat, warm_up=0)
    yield Line(PART, f"scoring of {images} images", scoring, images)


def random_results(
    annotations: Annotations, detections: int, seed: int = 0
) -> list[dict[str, Any]]:
    """So many detections on every image, as COCO results, at random boxes of random classes."""
    rng = np.random.default_rng(seed)
    ids = [x for x in annotations.category_ids if x is not None]
    results: list[dict[str, Any]] = []
    for image in annotations.images:
        limits = np.array([image.width, image.height])
        sides = limits * rng.uniform(0.02, 1, (detections, 2)) ** 2
        boxes = np.concatenate([(limits - sides) * rng.random((detections, 2)), sides], axis=1)
        classes = rng.choice(ids, detections).tolist()
        scores = np.sort(rng.uniform(0.05, 1, detections))[::-1].tolist()
        results += [
            {"image_id": image.id, "category_id": k, "bbox": box, "score": value}
            for k, box, value in zip(classes, boxes.round(3).tolist(), scores, strict=True)
        ]
    return results

"""Average precision, and detections as COCO results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from bckd.datasets.annotations import Annotations
from bckd.datasets.batch_loader import batch_loader, bytes_of_batch, workers_that_fit
from bckd.datasets.coco import CocoDataset, Key
from bckd.evaluation.scorers import Results, precision_curves
from bckd.models.dense import DenseDetector
from bckd.recipes import Scorer
from bckd.structures import Batch, Detections
from bckd.system.distributed import from_first, joined_lists, process_count, process_index
from bckd.system.errors import InputError
from bckd.system.files import write_text
from bckd.system.precision import Precision, autocast_type, computing_in
from bckd.system.telling import some

MAX_DETECTIONS = 100  # of an image and class that COCO's AP judges


@dataclass(frozen=True)
class Metrics:
    """COCO's average precision over IoU .50 to .95, in 0..1; nan where nothing is to be found.

    Attributes:
        AP50, AP75: at one IoU.
        APs, APm, APl: of objects below 32^2, up to 96^2, and above (area in pixels).
        per_class: AP by class name.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    per_class: dict[str, float]


def evaluation_loader(
    dataset: CocoDataset,
    batch_size: int,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
    pinned: bool = False,
    reserved: int = 0,
) -> DataLoader[Batch]:
    """Every image of the data set once, in batches of images that are padded to one size.

    An image is so never padded further than it would be alone: a GroupNorm, which takes its
    statistics over the padding too, sees the same in any company. Batches come in the order
    of their first image, and images in order within them.

    Args:
        share: (process, processes): that process's images, each `processes`-th one.
        pinned: batches lie in page-locked memory, from which a GPU copies by itself.
        reserved: bytes of shared memory that are others'. Where it has no room for all `workers`,
            fewer load.
    """
    same_canvas: dict[tuple[int, int], list[Key]] = {}
    for index in range(share[0], len(dataset), share[1]):
        canvas = dataset.canvas(index)
        same_canvas.setdefault(canvas, []).append(Key(0, index, canvas))
    batches = [
        keys[start : start + batch_size]
        for keys in same_canvas.values()
        for start in range(0, len(keys), batch_size)
    ]
    sizes = (bytes_of_batch(min(len(x), batch_size), canvas) for canvas, x in same_canvas.items())
    workers = workers_that_fit(workers, max(sizes, default=1), reserved)
    order = sorted(batches, key=lambda keys: keys[0].image)
    return batch_loader(dataset, order, workers, pinned=pinned)


def detect(
    detector: DenseDetector,
    loader: DataLoader[Batch],
    annotations: Annotations,
    progress: bool = True,
    who: str = "the detector",
    precision: Precision = "float32",
) -> Results:
    """Detections on every image, as COCO results; arguments and errors as of `find_objects`."""
    results: Results = []
    for image_id, found in find_objects(detector, loader, progress, who, precision):
        results += to_results(found, image_id, annotations.category_ids)
    return results


@torch.no_grad()
def find_objects(
    detector: DenseDetector,
    loader: Iterable[Batch],
    progress: bool = True,
    who: str = "the detector",
    precision: Precision = "float32",
) -> list[tuple[int | str, Detections]]:
    """Image ids and detections, on the CPU and in pixels of the original files.

    They come in the order of the loader's images. The detector is put into eval mode and left
    as it was found.

    Args:
        who: the detector's name, for the message.
        precision: what the network computes in; detections are picked in float32.

    Raises:
        InputError: a box or a score is nan, on which images.
    """
    device, was_training = next(detector.parameters()).device, detector.training
    detector.eval()
    results = []
    broken = []
    for batch in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
        moved = batch.to(device)
        with computing_in(autocast_type(precision, device, detector), device):
            found = detector.detect(moved.images, moved.sizes)
        for n, detections in enumerate(_on_host(found)):
            if not detections.finite:
                broken.append(batch.file_names[n])
                continue
            size = batch.original_sizes[n]
            results.append((batch.image_ids[n], _in_file(detections, batch.frames[n], size)))
    detector.train(was_training)
    if broken:
        what = f"{who} gives boxes or scores that are no numbers on {{}} images"
        raise InputError(some(what, broken))
    return results


def _on_host(found: list[Detections]) -> list[Detections]:
    """The detections of a batch on the CPU; the host waits once for all of its images."""
    counts = [len(image.scores) for image in found]
    boxes, scores, labels = (
        torch.cat([getattr(image, name) for image in found]).cpu().split(counts)
        for name in ("boxes", "scores", "labels")
    )
    return [Detections(*values) for values in zip(boxes, scores, labels, strict=True)]


def _in_file(
    detections: Detections, frame: torch.Tensor, original_size: torch.Tensor
) -> Detections:
    """Detections in pixels of the file, whose picture the network saw in a frame.

    Args:
        detections: on the CPU, in pixels of the batch.
        frame: (4,) xyxy.
        original_size: (2,) height and width of the file.
    """
    start, end = frame[:2], frame[2:]
    boxes = detections.boxes
    boxes = boxes.clamp(start.repeat(2).to(boxes), end.repeat(2).to(boxes)) - start.repeat(2)
    ratio = (original_size.flip(0) / (end - start)).repeat(2)
    return Detections(boxes.double() * ratio, detections.scores, detections.labels)


def to_results(
    detections: Detections, image_id: int | str, category_ids: tuple[int | None, ...]
) -> Results:
    """One image's detections, in pixels of the original file, as COCO results.

    Args:
        category_ids: id of every label; detections of a label without one are left out.
    """
    boxes = detections.boxes.double()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(side, 3) for side in box],
            "score": score,
        }
        for box, score, label in zip(
            boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
        if category_ids[label] is not None
    ]


def score(
    results: Results,
    annotations: Annotations,
    max_detections: int = MAX_DETECTIONS,
    scorer: Scorer = "hotcoco",
) -> Metrics:
    """Average precision of COCO results against the annotations.

    Args:
        max_detections: of an image and class that are judged, the best.
        scorer: who judges; the numbers are the same.

    Raises:
        InputError: a box or a score is no finite number: no threshold would be above it; or a
            detection is of an image or a category that is not annotated.
    """
    _check_finite(results)
    curves = precision_curves(results, annotations, max_detections, scorer)
    small, medium, large, everywhere = (
        curves.precision[..., curves.areas.index(name)]
        for name in ("small", "medium", "large", "all")
    )
    row = curves.category_ids.index
    ids = zip(annotations.class_names, annotations.category_ids, strict=True)
    return Metrics(
        AP=_mean(everywhere),
        AP50=_mean(everywhere[curves.ious.index(0.5)]),
        AP75=_mean(everywhere[curves.ious.index(0.75)]),
        APs=_mean(small),
        APm=_mean(medium),
        APl=_mean(large),
        per_class={
            name: math.nan if i is None else _mean(everywhere[..., row(i)]) for name, i in ids
        },
    )


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(np.mean(known)) if known.size else math.nan


def ceiling(annotations: Annotations, max_detections: int = MAX_DETECTIONS) -> float:
    """The AP of a detector that finds everything, of which the best `max_detections` are kept."""
    kept: dict[Any, Results] = {}
    for row in annotations.content["annotations"]:
        if not row["iscrowd"]:
            found = {name: row[name] for name in ("image_id", "category_id", "bbox")}
            kept.setdefault(row["image_id"], []).append({**found, "score": 1.0})
    results = [row for rows in kept.values() for row in rows[:max_detections]]
    return score(results, annotations, max_detections).AP


def _check_finite(results: Results) -> None:
    broken = [row for row in results if not all(map(math.isfinite, (*row["bbox"], row["score"])))]
    if broken:
        images = list(dict.fromkeys(str(row["image_id"]) for row in broken))
        what = "detections have boxes or scores that are no numbers on {} images, with ids"
        raise InputError(some(what, images))


def evaluate(
    detector: DenseDetector,
    dataset: CocoDataset,
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
    precision: Precision = "float32",
    scorer: Scorer = "hotcoco",
    reserved: int = 0,
) -> tuple[Metrics, Results]:
    """Detect on the data set and score: what `bckd eval` does.

    The processes of a distributed run each look at a share of the images, and get the
    metrics and detections of all.

    Args:
        max_detections: see `score`; the detector keeps as many as its own settings say.
        precision: see `find_objects`.
        scorer: see `score`.
        reserved: see `evaluation_loader`.

    Raises:
        InputError: a box or a score is nan, on which images.
    """
    share = (process_index(), process_count())
    pinned = next(detector.parameters()).is_cuda
    loader = evaluation_loader(dataset, batch_size, workers, share, pinned, reserved)
    own = detect(detector, loader, dataset.annotations, progress, precision=precision)
    results = joined_lists(own)
    position = {image.id: n for n, image in enumerate(dataset.images)}
    results.sort(key=lambda entry: position[entry["image_id"]])
    metrics = from_first(lambda: score(results, dataset.annotations, max_detections, scorer))
    return metrics, results


def write_results(path: Path, results: Results) -> None:
    """Write detections as a COCO results JSON file, which pycocotools' loadRes reads.

    Raises:
        InputError: a box or a score is no finite number, which JSON can't say.
    """
    _check_finite(results)
    write_text(path, json.dumps(results))

"""Average precision by pycocotools, and detections as COCO results."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset, Key, collate
from bckd.datasets.plain_images import PlainImages
from bckd.datasets.processes import start_process
from bckd.distributed import from_first, joined_lists, process_count, process_index
from bckd.errors import InputError
from bckd.files import write_text
from bckd.models.dense import DenseDetector
from bckd.structures import Batch, Detections
from bckd.telling import some

MAX_DETECTIONS = 100  # of an image and class that COCO's AP judges
Results = list[dict[str, Any]]  # COCO results: image_id, category_id, bbox (xywh), score


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
    dataset: CocoDataset | PlainImages,
    batch_size: int,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """Every image of the data set once, in batches of images that are padded to one size.

    An image is so never padded further than it would be alone: a GroupNorm, which takes its
    statistics over the padding too, sees the same in any company. Batches come in the order
    of their first image, and images in order within them.

    Args:
        share: (process, processes): that process's images, each `processes`-th one.
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
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # the stubs leave out what collate_fn makes of samples
        batch_sampler=sorted(batches, key=lambda keys: keys[0].image),
        num_workers=workers,
        collate_fn=partial(collate, size=dataset.size),
        worker_init_fn=start_process,
    )


def detect(
    detector: DenseDetector,
    loader: DataLoader[Batch],
    annotations: Annotations,
    progress: bool = True,
    who: str = "the detector",
) -> Results:
    """Detections on every image, as COCO results; arguments and errors as of `find_objects`."""
    results: Results = []
    for image_id, found in find_objects(detector, loader, progress, who):
        results += to_results(found, image_id, annotations.category_ids)
    return results


@torch.no_grad()
def find_objects(
    detector: DenseDetector,
    loader: DataLoader[Batch],
    progress: bool = True,
    who: str = "the detector",
) -> list[tuple[int | str, Detections]]:
    """Image ids and detections, on the CPU and in pixels of the original files.

    They come in the order of the loader's images. The detector is put into eval mode and left
    as it was found.

    Args:
        who: the detector's name, for the message.

    Raises:
        InputError: a box or a score is nan, on which images.
    """
    device, was_training = next(detector.parameters()).device, detector.training
    detector.eval()
    results = []
    broken = []
    for batch in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
        found = detector.detect(batch.images.to(device), batch.sizes.to(device))
        for n, detections in enumerate(found):
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


def _in_file(
    detections: Detections, frame: torch.Tensor, original_size: torch.Tensor
) -> Detections:
    """Detections on the CPU, in pixels of the file, whose picture the network saw in a frame.

    Args:
        frame: (4,) xyxy.
        original_size: (2,) height and width of the file.
    """
    start, end = frame[:2], frame[2:]
    boxes = detections.boxes.cpu()
    boxes = boxes.clamp(start.repeat(2).to(boxes), end.repeat(2).to(boxes)) - start.repeat(2)
    ratio = (original_size.flip(0) / (end - start)).repeat(2)
    return Detections(boxes.double() * ratio, detections.scores.cpu(), detections.labels.cpu())


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
    results: Results, annotations: Annotations, max_detections: int = MAX_DETECTIONS
) -> Metrics:
    """Average precision of COCO results against the annotations, by pycocotools.

    Args:
        max_detections: of an image and class that are judged, the best.

    Raises:
        InputError: a box or a score is no finite number: no threshold would be above it.
    """
    _check_finite(results)
    truth = annotations.to_pycocotools()
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([dict(entry) for entry in results]) if results else _nothing(truth)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = [max_detections]
        for name in (
            "imgIds",
            "catIds",
        ):  # numpy would make floats of 64 bits with and without sign
            ids = getattr(evaluation.params, name)
            setattr(evaluation.params, name, np.array(ids, dtype=object))
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU, recall, class, area, detections), -1 where nothing is to be found
    precision, areas = evaluation.eval["precision"], evaluation.params.areaRngLbl
    at = {round(float(iou), 2): n for n, iou in enumerate(evaluation.params.iouThrs)}
    everywhere, row = precision[..., areas.index("all"), 0], evaluation.params.catIds.index
    ids = zip(annotations.class_names, annotations.category_ids, strict=True)
    small, medium, large = (
        _mean(precision[..., areas.index(name), 0]) for name in ("small", "medium", "large")
    )
    return Metrics(
        _mean(everywhere),
        _mean(everywhere[at[0.5]]),
        _mean(everywhere[at[0.75]]),
        small,
        medium,
        large,
        {name: math.nan if i is None else _mean(everywhere[:, :, row(i)]) for name, i in ids},
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


def _nothing(truth: COCO) -> COCO:
    """No detections on these images; pycocotools' `loadRes` can't say that."""
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def evaluate(
    detector: DenseDetector,
    dataset: CocoDataset,
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
    max_detections: int = MAX_DETECTIONS,
) -> tuple[Metrics, Results]:
    """Detect on the data set and score: what `bckd eval` does.

    The processes of a distributed run each look at a share of the images, and get the
    metrics and detections of all.

    Args:
        max_detections: see `score`; the detector keeps as many as its own settings say.

    Raises:
        InputError: a box or a score is nan, on which images.
    """
    share = (process_index(), process_count())
    loader = evaluation_loader(dataset, batch_size, workers, share)
    results = joined_lists(detect(detector, loader, dataset.annotations, progress))
    position = {image.id: n for n, image in enumerate(dataset.images)}
    results.sort(key=lambda entry: position[entry["image_id"]])
    metrics = from_first(lambda: score(results, dataset.annotations, max_detections))
    return metrics, results


def write_results(path: Path, results: Results) -> None:
    """Write detections as a COCO results JSON file, which pycocotools' loadRes reads.

    Raises:
        InputError: a box or a score is no finite number, which JSON can't say.
    """
    _check_finite(results)
    write_text(path, json.dumps(results))

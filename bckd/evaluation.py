"""Average precision by pycocotools, and detections as COCO results."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, replace
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
from bckd.distributed import from_first, joined_lists, process_count, process_index
from bckd.files import write_text
from bckd.models.dense import DenseDetector
from bckd.structures import Batch, Detections

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
    dataset: CocoDataset, batch_size: int, workers: int = 0, share: tuple[int, int] = (0, 1)
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
        dataset,
        batch_sampler=sorted(batches, key=lambda keys: keys[0].index),
        num_workers=workers,
        collate_fn=partial(collate, size=dataset.size),
    )


@torch.no_grad()
def detect(
    detector: DenseDetector,
    loader: DataLoader[Batch],
    annotations: Annotations,
    progress: bool = True,
) -> Results:
    """Detections on every image, as COCO results in pixels of the original files.

    They come in the order of the loader's images. The detector is put into eval mode and left
    as it was found.
    """
    device, was_training = next(detector.parameters()).device, detector.training
    detector.eval()
    results: Results = []
    for batch in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
        found = detector.detect(batch.images.to(device), batch.sizes.to(device))
        for n, detections in enumerate(found):
            detections, sides = _in_frame(detections, batch.frames[n])
            ratio = (batch.original_sizes[n].flip(0) / sides).repeat(2)
            results += to_results(detections, batch.image_ids[n], ratio, annotations.category_ids)
    detector.train(was_training)
    return results


def _in_frame(detections: Detections, frame: torch.Tensor) -> tuple[Detections, torch.Tensor]:
    """Detections in pixels of the picture within its margins, and its width and height."""
    start, end = frame[:2], frame[2:]
    boxes = detections.boxes.cpu()
    boxes = boxes.clamp(start.repeat(2).to(boxes), end.repeat(2).to(boxes)) - start.repeat(2)
    return replace(detections, boxes=boxes), end - start


def to_results(
    detections: Detections, image_id: int, ratio: torch.Tensor, category_ids: tuple[int, ...]
) -> Results:
    """One image's detections as COCO results.

    Args:
        ratio: (4,) factors that bring xyxy to the original file's pixels.
        category_ids: id of every label.
    """
    boxes = detections.boxes.cpu().double() * ratio
    boxes[:, 2:] -= boxes[:, :2]
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
    ]


def score(results: Results, annotations: Annotations) -> Metrics:
    """Average precision of COCO results against the annotations, by pycocotools."""
    truth = annotations.to_pycocotools()
    names = annotations.class_names
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([dict(entry) for entry in results]) if results else _nothing(truth)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(v) if v > -1 else float("nan") for v in evaluation.stats[:6]]
    # (IoU, recall, class, area, detections): all areas, 100 detections
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = {}
    for index, name in enumerate(names):
        known = precision[:, :, index][precision[:, :, index] > -1]
        per_class[name] = float(np.mean(known)) if known.size else float("nan")
    return Metrics(*values, per_class)


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
) -> tuple[Metrics, Results]:
    """Detect on the data set and score: what `bckd eval` does.

    The processes of a distributed run each look at a share of the images, and get the
    metrics and detections of all.
    """
    share = (process_index(), process_count())
    loader = evaluation_loader(dataset, batch_size, workers, share)
    results = joined_lists(detect(detector, loader, dataset.annotations, progress))
    position = {image.id: n for n, image in enumerate(dataset.images)}
    results.sort(key=lambda entry: position[entry["image_id"]])
    return from_first(lambda: score(results, dataset.annotations)), results


def write_results(path: Path, results: Results) -> None:
    """Write detections as a COCO results JSON file, which pycocotools' loadRes reads."""
    write_text(path, json.dumps(results))

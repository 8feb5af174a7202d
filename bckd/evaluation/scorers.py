"""The precision that COCO's AP is a mean of: by hotcoco, and by pycocotools, the referee."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.recipes import Scorer
from bckd.system.errors import InputError

Results = list[dict[str, Any]]  # COCO results: image_id, category_id, bbox (xywh), score


@dataclass(frozen=True)
class PrecisionCurves:
    """Precision over recall of every IoU, class and range of areas.

    Attributes:
        precision: (IoU, recall, class, area) float64; -1 where nothing is to be found.
        ious: least IoU of a match.
        category_ids: of the classes, in rising order.
        areas: names of the ranges.
    """

    precision: np.ndarray
    ious: tuple[float, ...]
    category_ids: tuple[int, ...]
    areas: tuple[str, ...]


def precision_curves(
    results: Results, annotations: Annotations, max_detections: int, scorer: Scorer
) -> PrecisionCurves:
    """Match COCO results with the annotations; both scorers give the same numbers.

    Args:
        max_detections: of an image and class that are judged, the best.

    Raises:
        InputError: a detection is of an image or a category that is not annotated.
    """
    evaluation = _SCORERS[scorer](results, annotations)
    evaluation.params.maxDets = [max_detections]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells every step
        evaluation.evaluate()
        evaluation.accumulate()
    return PrecisionCurves(
        precision=evaluation.eval["precision"][..., 0],
        ious=tuple(round(float(iou), 2) for iou in evaluation.params.iouThrs),
        category_ids=tuple(sorted(row["id"] for row in annotations.content["categories"])),
        areas=tuple(evaluation.params.areaRngLbl),
    )


def hotcoco_evaluation(results: Results, annotations: Annotations) -> hotcoco.COCOeval:
    """What hotcoco is to match.

    It takes ids from 0 to 2^64 - 1. Ours may be text, or less, so images and categories are
    numbered here, in the order of their ids, in which pycocotools takes them. hotcoco works in
    threads of its own: once it has, a fork of the process can't score (a spawned one can).

    Raises:
        InputError: a detection is of an image or a category that is not annotated.
    """
    check_known(results, annotations)
    content = annotations.content
    images, categories = (
        {key: number for number, key in enumerate(sorted(row["id"] for row in content[part]))}
        for part in ("images", "categories")
    )
    rows = content["annotations"]
    truth = hotcoco.COCO.from_arrays(
        [
            {"id": images[row["id"]], "width": row["width"], "height": row["height"]}
            for row in content["images"]
        ],
        [{"id": categories[row["id"]], "name": row["name"]} for row in content["categories"]],
        np.array([images[row["image_id"]] for row in rows], dtype=np.int64),
        np.array([categories[row["category_id"]] for row in rows], dtype=np.int64),
        np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4),
        ids=np.array([row["id"] for row in rows], dtype=np.int64),
        area=np.array([row["area"] for row in rows], dtype=np.float64),
        iscrowd=np.array([row["iscrowd"] for row in rows], dtype=bool),
    )
    table = [
        (images[row["image_id"]], *row["bbox"], row["score"], categories[row["category_id"]])
        for row in results
    ]
    found = truth.load_res(np.array(table, dtype=np.float64).reshape(-1, 7))
    return hotcoco.COCOeval(truth, found, "bbox")


def _pycocotools_evaluation(results: Results, annotations: Annotations) -> Any:
    from pycocotools.coco import COCO  # late: it is not asked as a rule
    from pycocotools.cocoeval import COCOeval

    check_known(results, annotations)
    truth, found = annotations.to_pycocotools(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        if results:
            found = truth.loadRes([dict(entry) for entry in results])
        else:  # which `loadRes` can't say
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
    for name in ("imgIds", "catIds"):  # numpy would make floats of 64 bits with and without sign
        ids = getattr(evaluation.params, name)
        setattr(evaluation.params, name, np.array(ids, dtype=object))
    return evaluation


_SCORERS: dict[Scorer, Callable[[Results, Annotations], Any]] = {
    "hotcoco": hotcoco_evaluation,
    "pycocotools": _pycocotools_evaluation,
}


def check_known(results: Results, annotations: Annotations) -> None:
    """Refuse a detection of an image or a category that is not annotated.

    Raises:
        InputError: naming the first one.
    """
    known: dict[str, set[Any]] = {
        "image_id": {image.id for image in annotations.images},
        "category_id": set(annotations.category_ids),
    }
    for field, values in known.items():
        strange = {row[field] for row in results} - values
        if strange:
            raise InputError(
                f"results name {field} {min(strange, key=str)}, which {annotations.path} does not "
                f"list; expected detections on its images"
            )

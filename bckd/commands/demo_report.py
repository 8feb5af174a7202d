"""The demo's report: one HTML page that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.reports.html_parts import document, figure_in_page, table
from bckd.reports.seen import pick_images
from bckd.structures import Batch
from bckd.training.run_log import read_log
from bckd.viz.curves import training_curves
from bckd.viz.detections import Boxes, detection_grid
from bckd.viz.pictures import pictures_of
from bckd.viz.score_maps import score_map_grid

NAMES = {"none": "no distillation", "softmax": "softmax", "BCKD": "BCKD", "teacher": "teacher"}


def report(
    results: dict[str, Any],
    detectors: dict[str, DenseDetector],
    folders: dict[str, Path],
    validation: CocoDataset,
) -> str:
    """The page: table, training curves, score maps with differences, detections.

    Args:
        results: what `bckd demo` writes as JSON.
        detectors: "teacher" and every student, by method.
        folders: of the students' runs, for their logs.
        validation: the images to show some of.
    """
    batch = validation.batch(pick_images(validation))
    pictures = pictures_of(batch)
    curves = training_curves({name: read_log(folder) for name, folder in folders.items()})
    maps = _score_maps(pictures, detectors, batch)
    boxes = _detections(pictures, detectors, batch)
    parts = [
        "<h1>One teacher, three students</h1>",
        _introduction(results),
        _table(results),
        f"""<p class="dim">AP in percent on {len(validation)} images the students never saw.
Score error: mean |p<sub>s</sub> - p<sub>t</sub>| over all locations and classes.
Logit shift: mean of l<sub>s</sub> - l<sub>t</sub>; softmax distillation can't see it.
This is one seed: two runs of one method differ by about as much as two close methods here.
notebooks/evidence.md has the comparison over several seeds.</p>""",
        "<h2>Training</h2>",
        figure_in_page(curves, "loss terms of the three students over the training steps"),
        """<p class="dim">Unweighted loss terms; lower is better. A term is drawn for the runs that
use it.</p>""",
        "<h2>Score maps</h2>",
        figure_in_page(
            maps, "score maps of teacher and students, and their differences to the teacher"
        ),
        """<p class="dim">Upper rows: the highest class score at each location of all levels.
Lower rows: the largest gap to the teacher's score of any class. All panels share their scale.
</p>""",
        "<h2>Detections</h2>",
        figure_in_page(boxes, "ground truth and detections of teacher and students"),
        """<p class="dim">Detections with a score of at least 0.3; colours are classes.</p>""",
    ]
    return document("bckd demo", parts)


def _introduction(results: dict[str, Any]) -> str:
    """What the numbers say, and no more."""
    ap = {run["method"]: 100 * run["AP"] for run in results["runs"]}
    error = {run["method"]: run["score_error"] for run in results["runs"]}
    steps = results["runs"][0]["steps"]
    return (
        f"<p>Three students with the same initial weights, images and {steps} steps. With labels "
        f"alone the student reaches {ap['none']:.1f} AP; with softmax distillation "
        f"{ap['softmax']:.1f}; with BCKD, which distils each score as a binary classification and "
        f"each box by IoU, {ap['BCKD']:.1f}. The mean gap to the teacher's scores is "
        f"{error['none']:.4f}, {error['softmax']:.4f} and {error['BCKD']:.4f}.</p>"
    )


def _table(results: dict[str, Any]) -> str:
    head = ["", "AP", "AP50", "AP75", "score error", "logit shift", "seconds"]
    rows = [[NAMES["teacher"], *_percent(results["teacher"]), "", "", ""]]
    for run in results["runs"]:
        gap = [f"{run['score_error']:.4f}", f"{run['logit_shift']:+.2f}", f"{run['seconds']:.0f}"]
        rows.append([NAMES[run["method"]], *_percent(run), *gap])
    return table(head, rows)


def _percent(metrics: dict[str, Any]) -> list[str]:
    return [f"{100 * metrics[name]:.1f}" for name in ("AP", "AP50", "AP75")]


@torch.no_grad()
def _score_maps(
    pictures: list[np.ndarray], detectors: dict[str, DenseDetector], batch: Batch
) -> Figure:
    outputs = {}
    for name, detector in detectors.items():
        outputs[NAMES[name]] = detector(batch.to(next(detector.parameters()).device).images)
    return score_map_grid(pictures, outputs, NAMES["teacher"])


@torch.no_grad()
def _detections(
    pictures: list[np.ndarray], detectors: dict[str, DenseDetector], batch: Batch
) -> Figure:
    truth = batch.ground_truth
    columns: dict[str, list[Boxes]] = {
        "ground truth": [
            (truth.boxes[n][truth.labels[n] >= 0], truth.labels[n][truth.labels[n] >= 0], None)
            for n in range(len(pictures))
        ]
    }
    for name, detector in detectors.items():
        moved = batch.to(next(detector.parameters()).device)
        found = detector.detect(moved.images, moved.sizes)
        columns[NAMES[name]] = [(d.boxes.cpu(), d.labels.cpu(), d.scores.cpu()) for d in found]
    return detection_grid(pictures, columns, detectors["teacher"].class_names)

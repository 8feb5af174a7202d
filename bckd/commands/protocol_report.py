"""Both protocols on real score maps, as numbers and a figure."""

from __future__ import annotations

from dataclasses import asdict

import torch

from bckd.commands.options import ProtocolOptions
from bckd.datasets.annotations import class_names_of
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import evaluation_loader
from bckd.evaluation.protocol_scores import (
    DETECTED,
    KINDS,
    Kind,
    ProtocolNumbers,
    TopScores,
    compare_protocols,
    contradicted_by_classes,
    named_above,
    top_scores,
    write_scores,
)
from bckd.models.dense import DenseDetector
from bckd.models.grouped import forward_in_groups
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.files import write_atomically, write_json
from bckd.system.telling import first_of
from bckd.system.values import checked
from bckd.teachers.matching import with_classes_of
from bckd.training.data import validation_data
from bckd.training.recipe_check import require
from bckd.viz.pictures import pictures_of
from bckd.viz.protocol_maps import protocol_maps
from bckd.zoo.checkpoints import load_detector

BATCH_SIZE = 16
ROWS = (
    "locations",
    "median softmax",
    "median sigmoid",
    "softmax names",
    f"sigmoid > {DETECTED}",
    "former alone",
)


def run_protocols(options: ProtocolOptions) -> ProtocolNumbers:
    """Measure, print, and write `protocols.json`, `scores.npz` and `maps.png`.

    Raises:
        InputError: weights and data do not fit, an option is out of range, or the detector
            has no anchors, or several a cell.
    """
    options = checked(options)
    names = class_names_of(options.data.root / options.data.val_annotations)
    checkpoint = load_detector(options.weights, names)
    detector = checkpoint.detector
    strides = ", ".join(map(str, detector.strides))
    require(options.stride in detector.strides, "stride", options.stride, f"one of {strides}")
    data = options.data.config(size=checkpoint.size)
    dataset = validation_data(data, detector.normalisation)
    extra = [name for name in detector.class_names if name not in names]
    if extra:  # objects of theirs would count as background
        raise InputError(
            f"{options.weights} has other classes than the data set: it alone has {first_of(extra)}"
        )
    detector, dataset = with_classes_of(detector, options.weights, dataset)
    detector = detector.to(pick_device(options.device))
    scores = top_scores(detector, evaluation_loader(dataset, BATCH_SIZE, data.workers))
    numbers = compare_protocols(scores, len(detector.class_names))
    by_classes = contradicted_by_classes(
        detector, evaluation_loader(dataset, BATCH_SIZE, data.workers)
    )
    about = {"weights": options.weights.name, "images": len(dataset), "classes": len(names)}
    found = {**about, **asdict(numbers), "contradicted_by_classes": by_classes}
    write_json(options.out / "protocols.json", found)
    write_scores(options.out / "scores.npz", scores)
    _draw(detector, dataset, scores, options)
    print(table_of(numbers))
    print("\nbackground where softmax names one of K classes and no score passes, by K:")
    print("  " + "   ".join(f"{count}: {share:.1%}" for count, share in by_classes.items()))
    print(f"\nthe numbers, top values and figure are in {options.out}")
    return numbers


def table_of(numbers: ProtocolNumbers) -> str:
    """The numbers as a table, a column a kind of location, and the AUCs below it."""
    columns = []
    for kind in KINDS:
        found = getattr(numbers, kind)
        medians = (f"{x:.4f}" for x in (found.softmax_median, found.sigmoid_median))
        shares = (f"{x:.2%}" for x in (found.named, found.detected, found.contradicted))
        columns.append((kind, f"{found.count:,}", *medians, *shares))
    lines = [_row(*row) for row in zip(("", *ROWS), *columns, strict=True)]
    lines += [
        "",
        "AUC, objects against background:",
        f"  {numbers.softmax_auc:.4f}  top softmax probability",
        f"  {numbers.sigmoid_auc:.4f}  top sigmoid score",
        f"  {numbers.alike_auc:.4f}  top sigmoid score, at equal top softmax probability",
    ]
    return "\n".join(lines)


def _row(first: str, *cells: str) -> str:
    return f"{first:16}" + "".join(f"{cell:>14}" for cell in cells)


@torch.no_grad()
def _draw(
    detector: DenseDetector,
    dataset: CocoDataset,
    scores: dict[Kind, TopScores],
    options: ProtocolOptions,
) -> None:
    batch = dataset.batch(range(min(options.images, len(dataset))))
    moved = batch.to(next(detector.parameters()).device)
    output = forward_in_groups(detector, moved.images, moved.canvases)
    pictures = pictures_of(batch, dataset.normalisation)
    tops = {kind: (found.softmax, found.sigmoid) for kind, found in scores.items()}
    bounds = (named_above(len(detector.class_names)), DETECTED)
    drawing = protocol_maps(pictures, batch, output, options.stride, tops, bounds)
    write_atomically(options.out / "maps.png", lambda part: drawing.savefig(part, format="png"))

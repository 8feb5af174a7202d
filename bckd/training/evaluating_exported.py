"""Average precision of exported files beside PyTorch's, on the data of a run or on others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bckd.datasets.coco import CocoDataset
from bckd.datasets.decoding import decode_image
from bckd.evaluation.average_precision import evaluate, score, to_results
from bckd.evaluation.scorers import Results
from bckd.export.verification import (
    Detect,
    PixelsDetect,
    onnx_detect,
    pixels_detect,
    program_detect,
)
from bckd.models.dense import DenseDetector
from bckd.recipes import DataConfig
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.training.evaluating import saved_and_data

AP_TOLERANCE = 0.001  # by which an exported file's AP, in 0..1, may differ from PyTorch's


def verification_data(source: Path | str, data: DataConfig) -> tuple[DenseDetector, CocoDataset]:
    """A saved detector, and the images to compare with it on, with the classes of the detector.

    Raises:
        InputError: weights or data are absent or something else, or the data have boxes of a class
            that the detector has not.
    """
    detector, dataset = saved_and_data(source, data, "cpu")
    annotations = dataset.annotations.with_classes(detector.class_names, str(source))
    return detector, dataset.with_annotations(annotations)


def compare_scores(
    detector: DenseDetector,
    dataset: CocoDataset,
    files: Sequence[Path],
    preprocess: bool = False,
    progress: bool = True,
) -> dict[Path, str]:
    """Print the AP of each exported file beside that of PyTorch, both on the CPU.

    Args:
        detector, dataset: of `verification_data`.
        files: ONNX files and programs.
        preprocess: the ONNX files take pixels as they come.

    Returns:
        By its path, a sentence about each file whose AP differs by more than `AP_TOLERANCE`, or
        can't be had.
    """
    expected = evaluate(detector, dataset, batch_size=1, progress=progress)[0].AP
    if math.isnan(expected):
        raise InputError(f"{dataset.annotations.path} lists no object to find: AP is unknown")
    faults = {}
    for path in files:
        try:
            found = _score_of(path, detector, dataset, preprocess, progress)
        except InputError as error:
            faults[path] = f"{path} is not verified: {error}"
            continue
        both = f"AP {100 * found:.2f} on {len(dataset)} images, PyTorch's is {100 * expected:.2f}"
        if abs(found - expected) > AP_TOLERANCE:
            limit = f"expected them to differ by at most {100 * AP_TOLERANCE:g}"
            faults[path] = f"{path} has {both}; {limit}"
        else:
            print(f"{path}: {both}")
    return faults


def _score_of(
    path: Path, detector: DenseDetector, dataset: CocoDataset, preprocess: bool, progress: bool
) -> float:
    if path.suffix == ".pt2":
        _check_sides(detector, dataset)
        file = _File(detector, program_detect(path))
    elif preprocess:
        return score(_in_pixels(pixels_detect(path), dataset), dataset.annotations).AP
    else:
        file = _File(detector, onnx_detect(path))
    return evaluate(file, dataset, batch_size=1, progress=progress)[0].AP


def _check_sides(detector: DenseDetector, dataset: CocoDataset) -> None:
    """Refuse images that are too small for a program."""
    least = max(detector.strides)
    small = [n for n in range(len(dataset)) if min(dataset.canvas(n)) <= least]
    if small:
        height, width = dataset.canvas(small[0])
        raise InputError(
            f"{len(small)} images are small once brought to size, as {height} x {width} pixels; "
            f"a program takes sides above {least}"
        )


class _File(DenseDetector):
    """An exported file in a detector's place."""

    def __init__(self, detector: DenseDetector, detect: Detect) -> None:
        super().__init__()
        self.class_names, self.strides = detector.class_names, detector.strides
        self.settings, self.normalisation = detector.settings, detector.normalisation
        self.place = nn.Parameter(torch.zeros(0))  # on the CPU, where it runs
        self._detect = detect

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        return self._detect(images, sizes)


def _in_pixels(detect: PixelsDetect, dataset: CocoDataset) -> Results:
    """What a file that takes pixels finds, as COCO results."""
    results: Results = []
    for image in dataset.images:
        (found,) = detect(decode_image(dataset.folder / image.file_name)[None])
        results += to_results(found, image.id, dataset.annotations.category_ids)
    return results

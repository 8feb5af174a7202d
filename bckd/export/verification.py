"""Whether an exported file detects what PyTorch detects."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.datasets.preprocessing import with_margins
from bckd.datasets.scene_drawing import draw_scene
from bckd.export.exportable import INPUTS, OUTPUTS
from bckd.export.pixels import PIXELS
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.zoo.checkpoints import Checkpoint

BOX_TOLERANCE = 1e-2  # pixels by which a detection of another runtime may differ
SCORE_TOLERANCE = 1e-4
TEST_IMAGES = 4

# Images (N, 3, H, W) and their sizes (N, 2) to the detections of each, as `DenseDetector.detect`.
Detect = Callable[[Tensor, Tensor], list[Detections]]
# Pixels (N, H, W, 3) uint8 to the detections of each image, in these pixels.
PixelsDetect = Callable[[np.ndarray], list[Detections]]


@dataclass(frozen=True)
class Verification:
    """How an exported file's detections compare with PyTorch's, of a test image.

    Attributes:
        detections: of PyTorch.
        missed: detections that only one of the two has.
        boxes: largest difference of a coordinate among the others, in pixels.
        scores: largest difference of a score.
    """

    detections: int
    missed: int
    boxes: float
    scores: float

    def __str__(self) -> str:
        within = f"boxes within {self.boxes:.1g} pixels, scores within {self.scores:.1g}"
        if self.missed:
            return f"{self.missed} detections in one of the two alone; the others: {within}"
        if not self.detections:
            return "no detection on the test images, as in PyTorch"
        return f"the {self.detections} detections of PyTorch on a test image, {within}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' warnings and log messages, all of them about their own inside, away."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def onnx_detect(path: Path) -> Detect:
    """What an ONNX file detects, in onnxruntime on the CPU."""
    session = _session(path)

    def detect(images: Tensor, sizes: Tensor) -> list[Detections]:
        values = dict(zip(INPUTS, (images.numpy(), sizes.numpy()), strict=True))
        return _by_image(*map(torch.from_numpy, session.run(list(OUTPUTS), values)))

    return detect


def program_detect(path: Path) -> Detect:
    """What a program of `torch.export` detects."""
    with quiet():
        module = torch.export.load(path).module()

    def detect(images: Tensor, sizes: Tensor) -> list[Detections]:
        with torch.no_grad():
            return _by_image(*module(images, sizes))

    return detect


def _session(path: Path) -> Any:
    with extra("export", "running ONNX"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _by_image(boxes: Tensor, scores: Tensor, labels: Tensor, counts: Tensor) -> list[Detections]:
    parts = zip(*(x.split(counts.tolist()) for x in (boxes, scores, labels)), strict=True)
    return [Detections(*values) for values in parts]


def pixels_detect(path: Path) -> PixelsDetect:
    """What an ONNX file with the preprocessing in it detects, in onnxruntime on the CPU."""
    session = _session(path)

    def detect(pixels: np.ndarray) -> list[Detections]:
        return _by_image(*map(torch.from_numpy, session.run(list(OUTPUTS), {PIXELS: pixels})))

    return detect


def compare(checkpoint: Checkpoint, detect: Detect) -> Verification:
    """An exported file against the detector, on the first test image with a detection.

    Raises:
        InputError: one of the two gives boxes or scores that are no numbers.
    """
    detector = copy.deepcopy(checkpoint.detector).cpu().eval()

    def both(index: int) -> tuple[Detections, Detections]:
        """What the detector and the file find in a scene."""
        images, sizes = _test_image(checkpoint, index)
        with torch.no_grad():
            (expected,) = detector.detect(images, sizes)
        return expected, detect(images, sizes)[0]

    return _first_with_detections(both)


def compare_pixels(checkpoint: Checkpoint, detect: PixelsDetect) -> Verification:
    """As `compare`, of a file with the preprocessing in it, on pixels that need no resizing."""
    detector, size = copy.deepcopy(checkpoint.detector).cpu().eval(), checkpoint.size

    def both(index: int) -> tuple[Detections, Detections]:
        """What the detector and the file find in a scene."""
        pixels = (_scene(index, size.resized(480, 640)) * 255).round().to(torch.uint8)[0]
        image, (left, top, right, bottom) = with_margins(pixels, size)
        sizes = torch.tensor([image.shape[1:]])
        canvas = F.pad(image[None], _up_to(size.canvas(*pixels.shape[1:]), sizes[0].tolist()))
        with torch.no_grad():
            (expected,) = detector.detect(detector.normalisation.images_of(canvas, sizes), sizes)
        frame = torch.tensor([left, top, right, bottom]).to(expected.boxes)
        boxes = expected.boxes.clamp(frame[:2].repeat(2), frame[2:].repeat(2)) - frame[:2].repeat(2)
        (found,) = detect(pixels.permute(1, 2, 0)[None].numpy())
        return replace(expected, boxes=boxes), found

    return _first_with_detections(both)


def _first_with_detections(
    both: Callable[[int], tuple[Detections, Detections]],
) -> Verification:
    """How what the detector and the file find in test images agrees, of the first with any."""
    for index in range(TEST_IMAGES):
        expected, found = both(index)
        for who, detections in (("the detector", expected), ("the exported file", found)):
            if not detections.finite:
                raise InputError(
                    f"{who} gives boxes or scores that are no numbers on test image {index}"
                )
        agreement = verification_of(expected, found)
        if agreement.detections or agreement.missed:
            break
    return agreement


def _test_image(checkpoint: Checkpoint, index: int) -> tuple[Tensor, Tensor]:
    """A drawn scene as an image (1, 3, H, W) of 4:3 for the detector, and its sizes (1, 2)."""
    detector, size = checkpoint.detector, checkpoint.size
    sides = [max(side, 2 * max(detector.strides)) for side in size.resized(480, 640)]
    padded = [size.padded(side) for side in sides]
    height, width = padded if size.centred else sides
    pixels = _scene(index, (height, width))
    images = F.pad(detector.normalisation.apply(pixels), _up_to(padded, (height, width)))
    return images, torch.tensor([[height, width]])


def _scene(index: int, sides: tuple[int, int]) -> Tensor:
    """A drawn scene as pixels (1, 3, H, W) in 0..1, of these sides."""
    picture = torch.from_numpy(draw_scene(0, index)[0]).permute(2, 0, 1)[None] / 255
    return F.interpolate(picture, sides, mode="bilinear", antialias=True).clamp(0, 1)


def _up_to(padded: Sequence[int], sides: Sequence[int]) -> tuple[int, int, int, int]:
    """Pixels left, right, above and below that bring height and width to padded ones."""
    return 0, padded[1] - sides[1], 0, padded[0] - sides[0]


def verification_of(expected: Detections, found: Detections) -> Verification:
    """Pair detections of one class whose boxes and scores are within the tolerances."""
    boxes = torch.cdist(expected.boxes, found.boxes.to(expected.boxes), p=float("inf"))
    scores = (expected.scores[:, None] - found.scores).abs()
    alike = (boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE)
    alike &= expected.labels[:, None] == found.labels
    pairs = []
    for row in range(len(alike)):  # best first, each to the nearest that is free
        if alike[row].any():
            column = int(torch.where(alike[row], boxes[row], float("inf")).argmin())
            pairs.append((float(boxes[row, column]), float(scores[row, column])))
            alike[:, column] = False
    missed = len(expected.scores) + len(found.scores) - 2 * len(pairs)
    largest = [max(column, default=0.0) for column in zip(*pairs, strict=True)] or [0.0, 0.0]
    return Verification(len(expected.scores), missed, *largest)

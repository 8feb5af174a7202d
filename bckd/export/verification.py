"""Whether an exported file detects what PyTorch detects."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.datasets.scene_drawing import draw_scene
from bckd.export.exportable import INPUTS, OUTPUTS
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import Checkpoint

BOX_TOLERANCE = 1e-2  # pixels by which a detection of another runtime may differ
SCORE_TOLERANCE = 1e-4
TEST_IMAGES = 4

Detect = Callable[[Tensor, Tensor], Sequence[Tensor]]


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
    """What an ONNX file detects, in onnxruntime on the CPU: (images, sizes) to its outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def detect(images: Tensor, sizes: Tensor) -> list[Tensor]:
        values = dict(zip(INPUTS, (images.numpy(), sizes.numpy()), strict=True))
        return [torch.from_numpy(x) for x in session.run(list(OUTPUTS), values)]

    return detect


def program_detect(path: Path) -> Detect:
    """What a program of `torch.export` detects: (images, sizes) to its outputs."""
    with quiet():
        module = torch.export.load(path).module()
    return torch.no_grad()(module)


def compare(checkpoint: Checkpoint, detect: Detect) -> Verification:
    """An exported file against the detector, on the first test image with a detection.

    Raises:
        InputError: one of the two gives boxes or scores that are no numbers.
    """
    detector = copy.deepcopy(checkpoint.detector).cpu().eval()
    for index in range(TEST_IMAGES):
        images, sizes = _test_image(checkpoint, index)
        with torch.no_grad():
            (expected,) = detector.detect(images, sizes)
        found = Detections(*detect(images, sizes))
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
    picture = torch.from_numpy(draw_scene(0, index)[0]).permute(2, 0, 1)[None] / 255
    pixels = F.interpolate(picture, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    margins = (0, padded[1] - width, 0, padded[0] - height)
    return F.pad(detector.normalisation.apply(pixels), margins), torch.tensor([[height, width]])


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

"""Preprocessing as an ONNX graph, against the one that evaluations use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bckd.datasets.coco import collate
from bckd.datasets.plain_images import path_or_pixels, plain_sample
from bckd.evaluation.average_precision import _in_file
from bckd.export.pixels import from_pixels
from bckd.image_size import ImageSize
from bckd.normalisation import CAFFE, IMAGENET, Normalisation
from bckd.structures import Detections

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# In place of a detector: one whose outputs show what it was given.
SEEN = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch, 3, height, width] images, int64[batch, 2] sizes)
    => (float[detections, 4] boxes, float[a, 3, b, c] scores, int64[batch, 2] labels,
        int64[n] counts) {
    scores = Identity (images)
    labels = Identity (sizes)
    numbers = Cast <to: int = 1> (sizes)
    half = Constant <value = float {0.5}> ()
    smaller = Mul (numbers, half)
    boxes = Concat <axis: int = 1> (smaller, numbers)
    counts = Shape (sizes)
}
"""
CORNER = ImageSize(80, 128)
SIZES = {
    "corner": CORNER,
    "centred": replace(CORNER, centred=True),
    "other multiple": replace(CORNER, pad_multiple=48),
    "larger": ImageSize(300, 512),
}
SHAPES = [(187, 301), (301, 187), (80, 128), (333, 90), (1, 700), (719, 1279)]


@pytest.mark.parametrize("normalisation", [IMAGENET, CAFFE])
@pytest.mark.parametrize("name", SIZES)
def test_is_what_an_evaluation_does(name: str, normalisation: Normalisation) -> None:
    """Sides and padding to the pixel, values to two levels of 255, boxes to rounding."""
    size, model = SIZES[name], onnx.parser.parse_model(SEEN)
    from_pixels(model.graph, size, normalisation)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
    level = 1 / 255 / min(normalisation.deviation)
    for number, pixels in enumerate(images):
        given = path_or_pixels(pixels, number)
        batch = collate([plain_sample(given, number, size, normalisation)], size)
        boxes, seen, sizes, _ = session.run(None, {"pixels": pixels[None]})
        assert sizes.tolist() == batch.sizes.tolist()
        assert seen.shape == tuple(batch.images.shape)
        difference = np.abs(seen - batch.images.numpy())
        assert difference.max() < 2.01 * level
        assert (difference > 0.5 * level).mean() < 0.1  # one pass over both sides: 0.15 to 0.2
        assert (difference > 1.5 * level).mean() < 1e-4
        height, width = sizes[0].tolist()
        box = torch.tensor([[height / 2, width / 2, height, width]])
        found = Detections(box, torch.ones(1), torch.zeros(1, dtype=torch.long))
        expected = _in_file(found, batch.frames[0], batch.original_sizes[0]).boxes
        np.testing.assert_allclose(boxes, expected.numpy(), rtol=1e-6)

"""Detection in a batch of images as a graph of operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.export.exportable import DetectionGraph, _nms
from bckd.models.detector import Detector
from bckd.models.postprocess import PostProcess, postprocess
from bckd.structures import DenseOutput

HEADS = ("gfl", "retinanet", "fcos", "atss")
SIZES = torch.tensor([[90, 121]])
SETTINGS = {
    "official": PostProcess(),
    "one score for all": PostProcess(quality="geometric_mean"),
    "few candidates": PostProcess(candidates_per_level=9),
    "few detections": PostProcess(max_detections=5),
    "nothing passes": PostProcess(score_threshold=1.0),
    "everything passes": PostProcess(score_threshold=0.0, max_detections=10**6),
    "no overlap allowed": PostProcess(nms_iou=0.0),
}


@pytest.fixture(scope="module", params=HEADS)
def detector(request: pytest.FixtureRequest, tiny_detector: Callable[..., Detector]) -> Detector:
    return tiny_detector(head=request.param)


@torch.no_grad()
def random_output(detector: Detector, seed: int) -> DenseOutput:
    """Boxes of the detector's own locations, widely spread; logits about -2."""
    generator = torch.Generator().manual_seed(seed)
    output = detector(torch.randn(1, 3, 96, 128, generator=generator))

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    return replace(
        output,
        cls_logits=2 * noise(output.cls_logits) - 2,
        boxes=output.boxes + 8 * noise(output.boxes),
        quality=None if output.quality is None else noise(output.quality),
    )


def check(output: DenseOutput, detector: Detector, settings: PostProcess) -> int:
    """The number of detections, once both ways of finding them agree to the last bit."""
    detector.settings = settings
    (expected,) = postprocess(output, SIZES, settings)
    boxes, scores, labels, counts = DetectionGraph(detector).postprocess(output, SIZES)
    assert counts.tolist() == [len(labels)]
    assert torch.equal(labels, expected.labels) and labels.dtype == expected.labels.dtype
    assert torch.equal(scores, expected.scores)
    assert torch.equal(boxes, expected.boxes)
    return len(labels)


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_postprocess(detector: Detector, name: str) -> None:
    counts = [check(random_output(detector, seed), detector, SETTINGS[name]) for seed in range(4)]
    if name == "nothing passes":
        assert counts == [0] * 4
    else:
        assert min(counts) >= 5


def test_equals_postprocess_for_one_detection(detector: Detector) -> None:
    output = random_output(detector, 0)
    logits = torch.full_like(output.cls_logits, -9.0)
    logits[0, 17, 2] = 9.0
    assert check(replace(output, cls_logits=logits), detector, PostProcess()) == 1


def test_boxes_without_area_stay(detector: Detector) -> None:
    output = random_output(detector, 0)
    check(replace(output, boxes=torch.zeros_like(output.boxes)), detector, PostProcess())


def test_forward_is_detect(tiny_detector: Callable[..., Detector]) -> None:
    detector = tiny_detector()
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        detector.head.cls.weight *= 50.0  # scores far from one another
        (expected,) = detector.detect(images, SIZES)
        boxes, scores, labels, _ = DetectionGraph(detector)(images, SIZES)
    assert len(scores) > 10
    assert torch.equal(boxes, expected.boxes)
    assert torch.equal(scores, expected.scores)
    assert torch.equal(labels, expected.labels)


@pytest.mark.parametrize("name", SETTINGS)
def test_images_do_not_touch_one_another(detector: Detector, name: str) -> None:
    """A batch's detections are those of its images alone, one after another."""
    outputs = [random_output(detector, seed) for seed in range(3)]
    nothing = replace(outputs[1], cls_logits=torch.full_like(outputs[1].cls_logits, -99.0))
    outputs[1] = nothing
    detector.settings, graph = SETTINGS[name], DetectionGraph(detector)
    sizes = torch.tensor([[90, 121], [96, 128], [60, 80]])
    alone = [graph.postprocess(x, size[None]) for x, size in zip(outputs, sizes, strict=True)]
    together = {
        field: torch.cat([getattr(x, field) for x in outputs])
        for field in ("cls_logits", "boxes", "quality")
        if getattr(outputs[0], field) is not None
    }
    found = graph.postprocess(replace(outputs[0], **together), sizes)
    for ours, theirs in zip(found, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.cat(theirs), rtol=1e-6, atol=0)
    if name == "few detections":
        assert found[3].tolist() == [5, 0, 5]


def test_a_large_batch_keeps_the_digits() -> None:
    """Overlaps just above and just below the threshold, in the last of 64 images of 80 classes."""
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 6.1], [500, 0, 510, 10], [500, 0, 510, 5.9], [0, 0, 1300, 1]]
    )
    scores, labels = torch.linspace(0.9, 0.5, 5), torch.tensor([79, 79, 79, 79, 0])
    keep = _nms(boxes, scores, labels, torch.tensor([63, 63, 63, 63, 0]), 80, 0.6)
    assert keep.tolist() == [0, 2, 3, 4]

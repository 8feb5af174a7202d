"""Whether an exported file detects what PyTorch detects."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.export.verification import Verification, compare, quiet, verification_of
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.models.postprocess import PostProcess
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import Checkpoint

BOXES = [[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 30.0, 20.0], [40.0, 0.0, 50.0, 9.0]]
FOUND = Detections(torch.tensor(BOXES), torch.tensor([0.9, 0.5, 0.2]), torch.tensor([1, 0, 1]))


def test_equal() -> None:
    assert verification_of(FOUND, FOUND) == Verification(3, 0, 0.0, 0.0)


def test_the_largest_differences_count() -> None:
    other = replace(
        FOUND,
        boxes=FOUND.boxes + torch.tensor([[0.0], [-0.005], [0.001]]),
        scores=FOUND.scores + torch.tensor([0.0, 1e-5, -5e-5]),
    )
    found = verification_of(FOUND, other)
    assert (found.detections, found.missed) == (3, 0)
    assert found.boxes == pytest.approx(0.005, rel=1e-3)
    assert found.scores == pytest.approx(5e-5, rel=1e-2)


def test_the_order_of_equal_scores_does_not_matter() -> None:
    order = torch.tensor([2, 0, 1])
    other = Detections(FOUND.boxes[order], FOUND.scores[order], FOUND.labels[order])
    assert verification_of(FOUND, other) == Verification(3, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": torch.tensor([1, 2, 1])},
        {"scores": torch.tensor([0.9, 0.501, 0.2])},
        {"boxes": torch.tensor([BOXES[0], [5.0, 5.0, 30.0, 20.02], BOXES[2]])},
    ],
)
def test_what_differs_is_missed_on_both_sides(change: dict[str, Tensor]) -> None:
    assert verification_of(FOUND, replace(FOUND, **change)).missed == 2


def test_each_detection_counts_once() -> None:
    twice = Detections(*(torch.cat([x, x[:1]]) for x in (FOUND.boxes, FOUND.scores, FOUND.labels)))
    assert verification_of(FOUND, twice).missed == 1
    assert verification_of(twice, FOUND).missed == 1


def test_nothing_found() -> None:
    empty = Detections(FOUND.boxes[:0], FOUND.scores[:0], FOUND.labels[:0])
    assert verification_of(empty, empty) == Verification(0, 0, 0.0, 0.0)
    assert str(verification_of(empty, empty)) == "no detection on the test images, as in PyTorch"
    assert verification_of(FOUND, empty).missed == 3
    assert verification_of(empty, FOUND).missed == 3
    assert str(verification_of(empty, FOUND)).startswith("3 detections in one of the two alone")


class TestCompare:
    def detect(self, detector: Detector, seen: list[tuple[Tensor, Tensor]]) -> Callable:
        def detect(images: Tensor, sizes: Tensor) -> list[Detections]:
            seen.append((images, sizes))
            with torch.no_grad():
                return detector.detect(images, sizes)

        return detect

    def test_images_are_like_the_training_images(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        detector = tiny_detector(postprocess=PostProcess(score_threshold=0.005))
        seen: list[tuple[Tensor, Tensor]] = []
        size = ImageSize(short_side=90, long_side=200)
        found = compare(Checkpoint(detector, size), self.detect(detector, seen))
        assert found.detections == 100 and found.missed == 0
        ((images, sizes),) = seen
        assert sizes.tolist() == [[90, 120]] and images.shape == (1, 3, 96, 128)
        assert (images[..., 90:, :] == 0).all() and (images[..., 120:] == 0).all()
        assert images[..., :90, :120].std() > 0.3

    def test_centred_images_are_filled(self, tiny_detector: Callable[..., Detector]) -> None:
        seen: list[tuple[Tensor, Tensor]] = []
        detector, size = tiny_detector(), ImageSize(96, 96, pad_multiple=96, centred=True)
        compare(Checkpoint(detector, size), self.detect(detector, seen))
        images, sizes = seen[0]
        assert sizes.tolist() == [[96, 96]] and images.shape == (1, 3, 96, 96)

    def test_small_images_have_two_cells_on_every_level(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        seen: list[tuple[Tensor, Tensor]] = []
        detector = tiny_detector()
        compare(Checkpoint(detector, ImageSize(24, 40)), self.detect(detector, seen))
        assert seen[0][0].shape == (1, 3, 64, 64)

    def test_further_images_where_nothing_is_found(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        seen: list[tuple[Tensor, Tensor]] = []
        detector = tiny_detector(postprocess=PostProcess(score_threshold=0.9))
        found = compare(Checkpoint(detector, ImageSize(64, 64)), self.detect(detector, seen))
        assert found == Verification(0, 0, 0.0, 0.0)
        assert len(seen) == 4
        assert not torch.equal(seen[0][0], seen[1][0])

    @pytest.mark.parametrize("who", ["the detector", "the exported file"])
    def test_what_is_no_number_agrees_with_nothing(
        self, tiny_detector: Callable[..., Detector], who: str
    ) -> None:
        healthy, broken = tiny_detector(), tiny_detector()
        with torch.no_grad():
            broken.head.cls.bias.fill_(float("nan"))
        ours, theirs = (broken, healthy) if who == "the detector" else (healthy, broken)
        with pytest.raises(InputError, match=f"{who} gives boxes or scores that are no numbers"):
            compare(Checkpoint(ours, ImageSize(64, 64)), self.detect(theirs, []))


def test_quiet_and_then_as_before(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some exporter")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("a private interface is deprecated", FutureWarning, stacklevel=1)
            logger.warning("an operator has no decomposition")
            logger.error("a real error")
        warnings.warn("afterwards", stacklevel=1)
        logger.warning("afterwards")
    assert [str(entry.message) for entry in seen] == ["afterwards"]
    assert caplog.messages == ["a real error", "afterwards"]

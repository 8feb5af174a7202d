"""No image sees the padding or the statistics of another group."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from bckd.models.detector import Detector, HeadName
from bckd.models.grouped import NO_SCORE, forward_in_groups
from bckd.structures import DenseOutput

HEADS: tuple[HeadName, ...] = get_args(HeadName)
Canvas = tuple[int, int]
# Groups of two: wide, tall, wide again and narrower. The largest has both long sides.
CANVASES: list[Canvas] = [(64, 96)] * 2 + [(128, 64)] * 2 + [(64, 96)] * 2 + [(64, 64)] * 2
WHOLE = (128, 96)


def images(canvases: Sequence[Canvas]) -> Tensor:
    """Random, and zero beyond their canvas, as a batch is padded."""
    height, width = max(h for h, _ in canvases), max(w for _, w in canvases)
    found = torch.zeros(len(canvases), 3, height, width)
    generator = torch.Generator().manual_seed(0)
    for image, (h, w) in zip(found, canvases, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, generator=generator)
    return found


@pytest.fixture(params=HEADS)
def detector(request: pytest.FixtureRequest, tiny_detector: Callable[..., Detector]) -> Detector:
    found = tiny_detector(head=request.param)
    with torch.no_grad():
        found.head.cls.weight *= 100  # what is said depends on the image
    return found


def rows_within(output: DenseOutput, canvas: Canvas) -> Tensor:
    """(A,) bool: the locations of a canvas, among those of a larger one."""
    return output.locations.inside(torch.tensor([canvas]))[0]


def assert_rows_equal(joined: DenseOutput, row: int, alone: DenseOutput, canvas: Canvas) -> None:
    """What is said of an image in company is what is said of it alone."""
    inside = rows_within(joined, canvas)
    for name, expected in alone.per_location().items():
        found = joined.per_location()[name][row]
        torch.testing.assert_close(found[inside], expected[0], rtol=1e-5, atol=1e-4)
        beyond = NO_SCORE if name == "cls_logits" else 0
        assert (found[~inside] == beyond).all(), name
    for name in ("centres", "strides", "anchors"):
        expected, found = (getattr(x.locations, name) for x in (alone, joined))
        assert (expected is None) == (found is None)
        assert expected is None or torch.equal(found[inside], expected), name
    for found, expected in zip(joined.features, alone.features, strict=True):
        height, width = expected.shape[-2:]
        torch.testing.assert_close(found[row, :, :height, :width], expected[0])
        assert not found[row, :, height:].any() and not found[row, :, :, width:].any()


@torch.no_grad()
def test_each_image_is_seen_on_its_own_canvas(detector: Detector) -> None:
    batch = images(CANVASES)
    joined = forward_in_groups(detector, batch, CANVASES)
    for row, (height, width) in enumerate(CANVASES):
        alone = detector(batch[row : row + 1, :, :height, :width])
        assert_rows_equal(joined, row, alone, (height, width))
    together = detector(batch)  # as everything padded to the largest would be seen
    assert joined.locations.levels == together.locations.levels
    for name in ("centres", "strides", "anchors"):
        ours, theirs = (getattr(x.locations, name) for x in (joined, together))
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    inside = rows_within(joined, CANVASES[0])
    assert (joined.cls_logits[0] - together.cls_logits[0])[inside].abs().max() > 1e-3


def test_images_of_one_canvas_go_through_together(detector: Detector) -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor) -> DenseOutput:
        seen.append(tuple(x.shape))
        return detector(x)

    forward_in_groups(network, images(CANVASES), CANVASES)
    assert seen == [(4, 3, 64, 96), (2, 3, 128, 64), (2, 3, 64, 64)]
    seen.clear()
    same = [(64, 96)] * 3
    output = forward_in_groups(network, images(same), same)
    assert seen == [(3, 3, 64, 96)]
    assert output.locations.levels[0].height == 8


def test_padding_beyond_every_canvas_is_not_seen(detector: Detector) -> None:
    batch = nn.functional.pad(images([(64, 64)] * 2), (0, 32, 0, 64))
    output = forward_in_groups(detector, batch, [(64, 64)] * 2)
    assert (output.locations.levels[0].height, output.locations.levels[0].width) == (8, 8)


def test_gradients_are_those_of_the_groups_apart(detector: Detector) -> None:
    batch = images(CANVASES)

    def gradient(outputs: list[DenseOutput]) -> list[Tensor]:
        said = [value for output in outputs for value in output.per_location().values()]
        total = sum(value.abs().sum() for value in said)
        return torch.autograd.grad(total, list(detector.parameters()))

    joined = gradient([forward_in_groups(detector, batch, CANVASES)])
    parts = [
        detector(batch[n : n + 2, :, : CANVASES[n][0], : CANVASES[n][1]]) for n in range(0, 8, 2)
    ]
    for ours, expected in zip(joined, gradient(parts), strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


class TestBatchNorm:
    """One that learns takes its statistics over a group, as over the images of one GPU."""

    canvases = [*CANVASES[:4], (64, 96), (64, 96)]

    def apart(self, detector: Detector, batch: Tensor) -> list[tuple[Detector, DenseOutput]]:
        """Each group seen by a copy of its own, as by a process."""
        found = []
        for n in range(0, len(batch), 2):
            height, width = self.canvases[n]
            own = copy.deepcopy(detector)
            found.append((own, own(batch[n : n + 2, :, :height, :width])))
        return found

    def test_it_looks_at_its_group_alone(self, detector: Detector) -> None:
        detector.train()
        batch = images(self.canvases)
        copies = self.apart(detector, batch)
        joined = forward_in_groups(detector, batch, self.canvases, images_per_group=2)
        for n, (_, output) in enumerate(copies):
            for row in range(2):
                alone = {name: x[row : row + 1] for name, x in output.per_location().items()}
                features = tuple(x[row : row + 1] for x in output.features)
                one = replace(output, features=features, **alone)
                assert_rows_equal(joined, 2 * n + row, one, self.canvases[2 * n])

    def test_running_statistics_take_in_the_mean_over_groups(self, detector: Detector) -> None:
        detector.train()
        batch = images(self.canvases)
        buffers = [dict(own.named_buffers()) for own, _ in self.apart(detector, batch)]
        forward_in_groups(detector, batch, self.canvases, images_per_group=2)
        names = [name for name, _ in detector.named_buffers()]
        assert any("running_mean" in name for name in names)
        for name, value in detector.named_buffers():
            expected = torch.stack([x[name] for x in buffers]).float().mean(dim=0)
            torch.testing.assert_close(value.float(), expected, rtol=1e-5, atol=1e-6, msg=name)
        assert {m.momentum for m in detector.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}

    def test_one_without_running_statistics_looks_at_its_group(self, detector: Detector) -> None:
        detector.train()
        batch, other = images(self.canvases), copy.deepcopy(detector)
        for norm in other.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        found, expected = (
            forward_in_groups(x, batch, self.canvases, images_per_group=2)
            for x in (other, detector)
        )
        assert torch.equal(found.cls_logits, expected.cls_logits)

    def test_it_is_as_before_where_the_network_fails(self, detector: Detector) -> None:
        detector.train()

        class Failing(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.detector = detector

            def forward(self, x: Tensor) -> DenseOutput:
                raise RuntimeError("no memory")

        with pytest.raises(RuntimeError, match="no memory"):
            forward_in_groups(Failing(), images(self.canvases), self.canvases, images_per_group=2)
        assert {m.momentum for m in detector.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}

    def test_all_images_are_its_company_where_there_are_no_groups(self, detector: Detector) -> None:
        same = [(64, 96)] * 4
        batch, other = images(same), copy.deepcopy(detector.train())
        joined = forward_in_groups(detector, batch, same)
        assert torch.equal(joined.cls_logits, other(batch).cls_logits)

    def test_one_that_is_fixed_asks_for_no_groups(self, detector: Detector) -> None:
        calls = []
        detector.eval()
        forward_in_groups(lambda x: calls.append(x) or detector(x), images(CANVASES), CANVASES, 2)
        assert len(calls) == 3

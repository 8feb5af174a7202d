from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torchvision.ops import batched_nms

from bckd.geometry import grid
from bckd.models import PostProcess, postprocess
from bckd.models.detector import Detector, HeadName
from bckd.structures import DenseOutput, Detections

SIZE = torch.tensor([[64, 96]])
KEEP_ALL = PostProcess(score_threshold=0.0, candidates_per_level=1000, nms_iou=1.0)


def output_of(scores: list[list[float]], boxes: list[list[float]] | None = None) -> DenseOutput:
    """One image on levels of 1 x 4 and 1 x 2 locations; scores (6, K), boxes (6, 4)."""
    spread = [[14.0 * a, 2, 14.0 * a + 10, 20] for a in range(6)]
    return DenseOutput(
        cls_logits=torch.tensor([scores]).logit(),
        boxes=torch.tensor([boxes or spread]),
        locations=grid([(1, 4), (1, 2)], [8, 16]),
    )


def only(output: DenseOutput, settings: PostProcess, sizes: Tensor = SIZE) -> Detections:
    (detections,) = postprocess(output, sizes, settings)
    return detections


SCORES = [[0.9, 0.1], [0.2, 0.3], [0.04, 0.7], [0.5, 0.01], [0.6, 0.05], [0.02, 0.8]]


def test_best_first_with_their_labels_and_boxes() -> None:
    output = output_of(SCORES)
    found = only(output, replace(KEEP_ALL, score_threshold=0.45))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert found.labels.tolist() == [0, 1, 1, 0, 0]
    assert torch.equal(found.boxes, output.boxes[0, [0, 5, 2, 4, 3]])


def test_a_location_may_give_several_classes() -> None:
    found = only(output_of(SCORES), KEEP_ALL)
    assert len(found.scores) == 12
    assert (found.scores[:-1] >= found.scores[1:]).all()


def test_the_threshold_is_exclusive() -> None:
    output = output_of([[0.5]] * 6)
    assert len(only(output, PostProcess(score_threshold=0.5, nms_iou=1.0)).scores) == 0
    assert len(only(output, PostProcess(score_threshold=0.49, nms_iou=1.0)).scores) == 6


def test_candidates_are_the_best_of_each_level() -> None:
    found = only(output_of(SCORES), replace(KEEP_ALL, candidates_per_level=2))
    # Fine level: 0.9 and 0.7; the coarse one's 0.8 and 0.6 do not compete with them.
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_nms_keeps_the_better_of_two_boxes_of_a_class() -> None:
    near = [[0.0, 0, 10, 10], [1.0, 0, 11, 10], [40.0, 0, 50, 10]]
    boxes = near + [[60.0, 30, 70, 40]] * 3
    scores = [[0.6], [0.9], [0.5], [0.01], [0.01], [0.01]]
    # The first two overlap by 9 / 11.
    assert only(output_of(scores, boxes), PostProcess(nms_iou=0.85)).scores.tolist() == (
        pytest.approx([0.9, 0.6, 0.5])
    )
    found = only(output_of(scores, boxes), PostProcess(nms_iou=0.8))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.boxes.tolist() == [near[1], near[2]]


def test_nms_spares_equal_boxes_of_other_classes() -> None:
    same = [[10.0, 10, 30, 30]] * 6
    scores = [[0.9, 0.01], [0.01, 0.8], [0.7, 0.01], [0.01, 0.01], [0.01, 0.01], [0.01, 0.01]]
    found = only(output_of(scores, same), PostProcess())
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.labels.tolist() == [0, 1]


def test_nms_works_across_levels() -> None:
    same = [[10.0, 10, 30, 30]] * 6
    scores = [[0.5], [0.01], [0.01], [0.01], [0.01], [0.8]]
    assert only(output_of(scores, same), PostProcess()).scores.tolist() == pytest.approx([0.8])


def test_the_cap_keeps_the_best() -> None:
    found = only(output_of(SCORES), replace(KEEP_ALL, max_detections=3))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_boxes_are_clipped_to_their_own_image() -> None:
    boxes = torch.tensor([-5.0, -7, 500, 400]).expand(2, 6, 4)
    output = output_of([[0.9]] + [[0.01]] * 5)
    output = replace(output, boxes=boxes, cls_logits=output.cls_logits.expand(2, -1, -1))
    first, second = postprocess(output, torch.tensor([[64, 96], [30, 50]]), PostProcess())
    assert first.boxes.tolist() == [[0, 0, 96, 64]]
    assert second.boxes.tolist() == [[0, 0, 50, 30]]


def test_clipping_comes_before_nms() -> None:
    boxes = [[80.0, 40, 200, 100], [80.0, 40, 96, 64]] + [[0.0, 0, 5, 5]] * 4
    output = output_of([[0.9], [0.8]] + [[0.01]] * 4, boxes)
    assert len(only(output, PostProcess()).scores) == 1


def test_nothing_above_the_threshold() -> None:
    found = only(output_of([[0.01, 0.02]] * 6), PostProcess())
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def test_quality_multiplies_the_score_behind_the_threshold() -> None:
    output = output_of([[0.9], [0.8], [0.04], [0.01], [0.01], [0.01]])
    quality = torch.tensor([[0.05, 0.9, 1 - 1e-6, 0.5, 0.5, 0.5]]).logit()
    found = only(replace(output, quality=quality), PostProcess())
    # 0.9 passes the threshold of 0.05 by its class score and leaves with less.
    assert found.scores.tolist() == pytest.approx([0.72, 0.045])
    assert torch.equal(found.boxes, output.boxes[0, [1, 0]])


def test_quality_in_a_geometric_mean_counts_before_the_threshold() -> None:
    output = output_of([[0.9, 0.16], [0.8, 0.01], [0.04, 0.01], [0.36, 0.01]] + [[0.01, 0.01]] * 2)
    quality = torch.tensor([[0.01, 0.2, 1 - 1e-6, 0.25, 0.0625, 0.01]]).logit()
    settings = PostProcess(score_threshold=0.15, quality="geometric_mean")
    found = only(replace(output, quality=quality), settings)
    # 0.9 stays below the threshold with its low quality, 0.04 passes it with its high one.
    assert found.scores.tolist() == pytest.approx([0.4, 0.3, 0.2])
    assert found.labels.tolist() == [0, 0, 0]
    assert torch.equal(found.boxes, output.boxes[0, [1, 3, 2]])


def test_quality_in_a_geometric_mean_chooses_the_candidates() -> None:
    output = output_of([[0.9], [0.8], [0.5], [0.01], [0.01], [0.01]])
    quality = torch.tensor([[0.01, 0.2, 0.5, 0.5, 0.5, 0.5]]).logit()
    output = replace(output, quality=quality)
    settings = PostProcess(candidates_per_level=1)
    assert only(output, settings).scores.tolist() == pytest.approx([0.009])
    found = only(output, replace(settings, quality="geometric_mean"))
    # Of the fine level's 0.095, 0.4 and 0.5, and the coarse one's twice 0.005 ** 0.5.
    assert found.scores.tolist() == pytest.approx([0.5, 0.005**0.5])


def test_the_kind_of_quality_is_nothing_to_a_head_without_it() -> None:
    plain, other = PostProcess(), PostProcess(quality="geometric_mean")
    assert only(output_of(SCORES), other).scores.equal(only(output_of(SCORES), plain).scores)


def one_by_one(output: DenseOutput, n: int, size: Tensor, settings: PostProcess) -> Detections:
    """The definition, for image n: level after level, then NMS."""
    # Of the whole batch: the last bit of a sigmoid depends on its place in memory.
    scores, factor = output.cls_logits.sigmoid(), torch.ones(output.cls_logits.shape[:2])
    if output.quality is not None:
        factor = output.quality.sigmoid()
        if settings.quality == "geometric_mean":
            scores, factor = (scores * factor[..., None]).sqrt(), torch.ones_like(factor)
    limit = size.flip(0).repeat(2).float()
    boxes, found, start = output.boxes[n].clamp(min=0).minimum(limit), [], 0
    for level in scores[n].split(output.locations.counts):
        row, label = (~(level <= settings.score_threshold)).nonzero(as_tuple=True)
        values = level[row, label]
        best = values.topk(min(settings.candidates_per_level, len(values))).indices
        row, label = row[best] + start, label[best]
        found.append((boxes[row], values[best] * factor[n, row], label))
        start += len(level)
    boxes, score, label = (torch.cat(parts) for parts in zip(*found, strict=True))
    broken = ~(score.isfinite() & boxes.isfinite().all(dim=-1))
    keep = broken.nonzero().flatten()
    if not len(keep):
        keep = batched_nms(boxes, score, label, settings.nms_iou)
    keep = keep[: settings.max_detections]
    return Detections(boxes[keep], score[keep], label[keep])


def random_output(seed: int) -> tuple[DenseOutput, Tensor]:
    """Of one to five images: with ties of scores, equal boxes, broken numbers, empty images."""
    generator = torch.Generator().manual_seed(seed)

    def chance(share: float) -> bool:
        return bool(torch.rand((), generator=generator) < share)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    images, classes = int(draw(1, 6)), int(draw(1, 20))
    locations = grid([tuple(draw(1, 20, 2).tolist()) for _ in range(3)], [8, 16, 32])
    places = sum(locations.counts)
    logits = 2 * torch.randn(images, places, classes, generator=generator)
    corner, sides = 100 * torch.rand(2, images, places, 2, generator=generator)
    boxes = torch.cat([corner, corner + sides], dim=-1)
    if chance(0.5):
        logits, boxes = logits.round(), boxes.round()
    if chance(0.2):
        boxes[0, int(draw(0, places))] = math.nan
    if chance(0.2):
        logits[-1, int(draw(0, places))] = math.nan
    if chance(0.2):
        logits[0] = -20
    quality = torch.randn(images, places, generator=generator) if chance(0.5) else None
    return DenseOutput(logits, boxes, locations, quality=quality), draw(20, 200, images, 2)


@pytest.mark.parametrize("quality", ["factor", "geometric_mean"])
@pytest.mark.parametrize("candidates", [1, 30, 1000])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.6])
def test_a_batch_gives_what_its_images_give(
    threshold: float, candidates: int, quality: Literal["factor", "geometric_mean"]
) -> None:
    """To the last bit, ties and broken numbers too."""
    settings = PostProcess(threshold, candidates, quality=quality)
    count = 0
    for seed in range(12):
        output, sizes = random_output(seed)
        together = postprocess(output, sizes, settings)
        for n, found in enumerate(together):
            expected = one_by_one(output, n, sizes[n], settings)
            for name, value in vars(expected).items():
                assert torch.equal(getattr(found, name).nan_to_num(-1), value.nan_to_num(-1))
            count += len(found.scores)
    assert count > 50


class Waits(TorchFunctionMode):
    """Counts what makes the host wait for a GPU: values that it reads, sizes that depend on some.

    NMS, of which there is one an image, is not seen.
    """

    READS = ("tolist", "item", "nonzero", "__bool__", "__int__", "__index__", "cpu", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") in self.READS
        return func(*args, **(kwargs or {}))


def test_the_host_waits_no_more_for_more_images_and_levels() -> None:
    counts = []
    for images, levels in ((1, 1), (2, 3), (8, 5)):
        locations = grid([(6 - n, 7) for n in range(levels)], [8 * 2**n for n in range(levels)])
        places = sum(locations.counts)
        boxes = torch.rand(images, places, 4) + torch.tensor([0, 0, 9, 9])
        output = DenseOutput(torch.randn(images, places, 3), boxes, locations)
        with Waits() as waits:
            found = postprocess(output, torch.full((images, 2), 64), PostProcess())
        assert len(found) == images and all(len(image.scores) for image in found)
        counts.append(waits.count)
    assert counts == [3, 3, 3]


@pytest.mark.parametrize("head", get_args(HeadName))
def test_the_first_wait_is_for_the_number_of_candidates(
    tiny_detector: Callable[..., Detector], head: str
) -> None:
    """On fake CUDA tensors, which have no values: any read of one raises, as does a stray one."""
    with FakeTensorMode(), torch.device("cuda"):
        detector = tiny_detector(head=head).eval()
        images, sizes = torch.zeros(2, 3, 64, 96), torch.zeros(2, 2)
        with pytest.raises(DataDependentOutputException) as caught:
            detector.detect(images, sizes)
    ours = [entry.name for entry in caught.traceback if entry.path.name == "postprocess.py"]
    assert ours[-1] == "_candidates"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_waited_for_no_more_for_more_levels() -> None:
    def waits(images: int, levels: int) -> int:
        locations = grid([(6, 7)] * levels, [8 * 2**n for n in range(levels)])
        boxes = torch.rand(images, 42 * levels, 4) + torch.tensor([0, 0, 9, 9])
        output = DenseOutput(torch.randn(images, 42 * levels, 3).cuda(), boxes.cuda(), locations)
        sizes = torch.full((images, 2), 64, device="cuda")
        postprocess(output, sizes, PostProcess())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                postprocess(output, sizes, PostProcess())
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(entry.message) for entry in told)

    assert 0 < waits(4, 1) == waits(4, 5)
    assert waits(9, 5) - waits(8, 5) == waits(5, 5) - waits(4, 5) <= 2


def test_images_do_not_mix() -> None:
    one, other = output_of(SCORES), output_of([row[::-1] for row in SCORES])
    both = replace(
        one,
        cls_logits=torch.cat([one.cls_logits, other.cls_logits]),
        boxes=torch.cat([one.boxes, other.boxes]),
    )
    together = postprocess(both, SIZE.expand(2, -1), PostProcess())
    for found, alone in zip(together, (one, other), strict=True):
        expected = only(alone, PostProcess())
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.labels, expected.labels)


def test_detections_carry_no_gradient() -> None:
    output = output_of(SCORES)
    output = replace(output, cls_logits=output.cls_logits.requires_grad_())
    assert not only(output, PostProcess()).scores.requires_grad

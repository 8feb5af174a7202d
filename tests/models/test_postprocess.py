from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bckd.geometry import grid
from bckd.models import PostProcess, postprocess
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

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bckd.assigners import AssignmentRules, shared
from bckd.assigners.shared import in_crowd, one_an_image, padded, targets_of
from bckd.geometry import grid, with_anchors
from bckd.models.heads import HEADS
from bckd.structures import DenseOutput, GroundTruth, Locations


def truth(crowd: list[bool]) -> GroundTruth:
    """One image with two boxes, one without any."""
    boxes = torch.tensor([[0.0, 0, 16, 16], [8, 8, 32, 24]])
    empty = torch.zeros(0, dtype=torch.int64)
    return GroundTruth.from_lists(
        [boxes, torch.zeros(0, 4)],
        [torch.tensor([2, 0]), empty],
        [torch.tensor(crowd), empty.bool()],
    )


@pytest.mark.parametrize("count", [0, 2])
def test_padded_appends_a_row(count: int) -> None:
    found = padded(torch.ones(3, count, 4), 7)
    assert found.shape == (3, count + 1, 4)
    assert (found[:, :count] == 1).all() and (found[:, count] == 7).all()
    assert padded(torch.ones(3, count, dtype=torch.int64), 7).dtype == torch.int64


class TestTargets:
    def test_of_the_owner(self) -> None:
        known = truth([False, False])
        owner = torch.tensor([[1, 0, 2], [2, 2, 2]])  # 2 is no box
        positive = torch.tensor([[True, True, False], [False] * 3])
        labels, boxes = targets_of(known, owner, positive, num_classes=5)
        assert labels.tolist() == [[0, 2, 5], [5, 5, 5]]
        assert torch.equal(boxes[0, :2], known.boxes[0, [1, 0]])
        assert not boxes[0, 2].any() and not boxes[1].any()

    def test_an_owner_does_not_make_a_positive(self) -> None:
        owner, nothing = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool)
        labels, boxes = targets_of(truth([False, False]), owner, nothing, num_classes=5)
        assert (labels == 5).all() and not boxes.any()

    def test_without_any_box(self) -> None:
        empty = GroundTruth.from_lists([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
        owner, nothing = torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.bool)
        labels, boxes = targets_of(empty, owner, nothing, num_classes=5)
        assert labels.tolist() == [[5, 5, 5]] and boxes.shape == (1, 3, 4) and not boxes.any()


class TestCrowd:
    def naive(self, locations: Locations, known: GroundTruth) -> list[list[bool]]:
        found = []
        for boxes, crowd in zip(known.boxes, known.crowd, strict=True):
            found.append([False] * len(locations.centres))
            for box in boxes[crowd].tolist():
                for a, (x, y) in enumerate(locations.centres.tolist()):
                    if locations.anchors is None:
                        inside = box[0] < x < box[2] and box[1] < y < box[3]
                    else:
                        left, top, right, bottom = locations.anchors[a].tolist()
                        width = min(right, box[2]) - max(left, box[0])
                        height = min(bottom, box[3]) - max(top, box[1])
                        shared = max(width, 0) * max(height, 0)
                        inside = shared > 0.5 * (right - left) * (bottom - top)
                    found[-1][a] |= inside
        return found

    @pytest.mark.parametrize("crowd", [[True, False], [False, True], [True, True]])
    @pytest.mark.parametrize("offset", [0.0, 0.5])  # 0: points on borders, anchors half inside
    @pytest.mark.parametrize("anchored", [True, False])
    def test_agrees_with_the_naive_loop(
        self, crowd: list[bool], anchored: bool, offset: float
    ) -> None:
        locations, known = grid([(3, 4)], [8], offset=offset), truth(crowd)
        if anchored:
            locations = with_anchors(locations, [(1.0, 1.0), (1.5, 1.0), (0.5, 2.0)])
        found = in_crowd(locations, known)
        assert found.tolist() == self.naive(locations, known)
        assert found.any() and not found.all() and not found[1].any()

    def test_regions_do_not_add_up(self) -> None:
        # Two regions with two fifths of the anchor each, none with most of it.
        location = with_anchors(grid([(1, 1)], [8]), [(10.0, 1.0)])  # x from -40 to 40
        boxes = [torch.tensor([[-40.0, -4, -8, 4], [8.0, -4, 40, 4]])]
        known = GroundTruth.from_lists(boxes, [torch.zeros(2).long()], [torch.tensor([True, True])])
        assert not in_crowd(location, known).any()

    def test_without_crowd_or_box(self) -> None:
        points = grid([(3, 4)], [8])
        assert not in_crowd(points, truth([False, False])).any()
        empty = GroundTruth.from_lists([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
        assert in_crowd(points, empty).shape == (1, 12)


def test_one_an_image() -> None:
    positive = torch.tensor([[True, True, False], [False] * 3, [True, True, True]])
    assert one_an_image(positive).tolist() == [2, 1, 3]
    assert one_an_image(positive).dtype == torch.float32


class TestByImages:
    """Crowded batches are assigned some images at a time."""

    @pytest.mark.parametrize("head", HEADS)
    def test_in_parts_or_at_once_is_the_same(
        self, head: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        family, generator = HEADS[head], torch.Generator().manual_seed(0)
        places = family.locations([(16, 20), (8, 10)], (8, 16), family.defaults.anchor_scale)
        corners, sides = (80 * torch.rand(5, 6, 2, generator=generator) for _ in range(2))
        boxes = torch.cat([corners, corners + 8 + sides], dim=-1)
        labels = torch.randint(-1, 3, (5, 6), generator=generator)
        truth = GroundTruth(boxes, labels, torch.zeros_like(labels, dtype=torch.bool))
        count = sum(places.counts)
        output = DenseOutput(torch.zeros(5, count, 3), torch.zeros(5, count, 4), places)
        rules = AssignmentRules(region="official" if head in ("gfl", "atss") else None)
        sizes = torch.tensor([[128, 160]]).repeat(5, 1)
        found = []
        for pairs in (shared.PAIRS_AT_ONCE, 2 * 7 * count, 1):
            monkeypatch.setattr(shared, "PAIRS_AT_ONCE", pairs)
            found.append(vars(family.assign(output, truth, sizes, rules)))
        assert found[0]["positive"].any()
        for other in found[1:]:
            for name, value in found[0].items():
                torch.testing.assert_close(other[name], value, rtol=0, atol=0, msg=name)

    def test_memory_is_bounded(self) -> None:
        """What is asked at once has few pairs, but for an image that has more by itself."""
        seen = []

        def assign(truth: GroundTruth, valid: Tensor) -> tuple[Tensor]:
            seen.append(truth.labels.numel() * valid.shape[1])
            return (valid,)

        labels = torch.zeros(16, 99, dtype=torch.long)
        truth = GroundTruth(torch.zeros(16, 99, 4), labels, labels.bool())
        valid = torch.rand(16, 20_000) > 0.5
        (together,) = shared.by_images(assign, truth, valid)
        assert torch.equal(together, valid)
        assert len(seen) > 1 and max(seen) <= shared.PAIRS_AT_ONCE

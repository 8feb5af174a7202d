from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from bckd.geometry import grid
from bckd.normalisation import IMAGENET
from bckd.structures import Batch, GroundTruth, Level


def test_a_level_counts_its_cells() -> None:
    assert Level(stride=8, height=3, width=5).count == 15


def test_a_level_counts_all_locations_of_its_cells() -> None:
    assert Level(stride=8, height=3, width=5, per_cell=9).count == 135


class TestLocations:
    def test_counts_sum_to_all(self) -> None:
        locations = grid([(4, 5), (2, 3), (1, 2)], [8, 16, 32])
        assert locations.counts == [20, 6, 2]
        assert sum(locations.counts) == len(locations.centres) == len(locations.strides)

    @pytest.mark.parametrize("offset", [0.0, 0.5])
    @pytest.mark.parametrize("size", [(32, 40), (24, 33), (17, 8), (1, 1), (90, 90)])
    def test_inside_takes_every_cell_that_starts_in_the_image(
        self, size: tuple[int, int], offset: float
    ) -> None:
        locations = grid([(4, 5), (2, 3)], [8, 16], offset=offset)
        expected = [
            row * level.stride < size[0] and column * level.stride < size[1]
            for level in locations.levels
            for row in range(level.height)
            for column in range(level.width)
        ]
        whole = (32, 48)
        inside = locations.inside(torch.tensor([size, whole]))
        assert inside[0].tolist() == expected
        assert inside[1].all()


class TestGroundTruth:
    def lists(self) -> GroundTruth:
        boxes = [torch.tensor([[0.0, 0, 4, 4], [1, 1, 9, 9]]), torch.zeros(0, 4)]
        labels = [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.int64)]
        return GroundTruth.from_lists(boxes, labels)

    def test_from_lists_pads(self) -> None:
        truth = self.lists()
        assert truth.boxes.shape == (2, 2, 4)
        assert truth.labels.tolist() == [[2, 0], [-1, -1]]
        assert truth.objects.tolist() == [[True, True], [False, False]]
        assert not truth.crowd.any()

    def test_from_lists_without_any_box(self) -> None:
        empty = torch.zeros(0, dtype=torch.int64)
        truth = GroundTruth.from_lists([torch.zeros(0, 4)] * 3, [empty] * 3)
        assert truth.boxes.shape == (3, 0, 4)
        assert truth.labels.shape == truth.crowd.shape == truth.objects.shape == (3, 0)

    def test_crowd_and_boxes_without_area_are_no_objects(self) -> None:
        boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [3, 1, 3, 9], [3, 1, 9, 1]])
        crowd = torch.tensor([False, True, False, False])
        truth = GroundTruth.from_lists([boxes], [torch.zeros(4, dtype=torch.int64)], [crowd])
        assert truth.crowd.tolist() == [[False, True, False, False]]
        assert truth.objects.tolist() == [[True, False, False, False]]

    def test_to_moves_every_field(self) -> None:
        known = self.lists()
        moved = known.to("meta")
        tensors = (moved.boxes, moved.labels, moved.crowd)
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        assert moved.has_crowd == known.has_crowd

    @pytest.mark.parametrize("crowd", [[[False], [True]], [[False], [False]], None])
    def test_whether_there_is_a_crowd_region_is_known(self, crowd: list | None) -> None:
        boxes, labels = [torch.ones(1, 4)] * 2, [torch.zeros(1, dtype=torch.int64)] * 2
        flags = crowd and [torch.tensor(image) for image in crowd]
        truth = GroundTruth.from_lists(boxes, labels, flags)
        assert truth.has_crowd == bool(truth.crowd.any())


def small_batch() -> Batch:
    """One image of a batch, with a box."""
    sizes = torch.tensor([[30, 40]])
    truth = GroundTruth.from_lists([torch.ones(1, 4)], [torch.zeros(1, dtype=torch.int64)])
    return Batch(
        pixels=torch.zeros(1, 3, 32, 64, dtype=torch.uint8),
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=((32, 64),),
        original_sizes=sizes,
        frames=torch.tensor([[0, 0, 40, 30]]),
        ground_truth=truth,
        indices=(4,),
        flipped=(True,),
        image_ids=(7,),
        file_names=("a.jpg",),
    )


def test_a_batch_moves_with_its_ground_truth() -> None:
    batch = small_batch()
    moved = batch.to("meta")
    tensors = {x.name: getattr(moved, x.name) for x in fields(moved)}
    found = {name for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    on_the_host = {"original_sizes", "frames"}  # no step reads these
    assert found == {"pixels", "sizes", "padded_sizes", *on_the_host}
    assert all((tensors[name].device.type == "meta") != (name in on_the_host) for name in found)
    assert moved.images.device.type == "meta"
    assert moved.canvases == ((32, 64),)
    assert moved.ground_truth.boxes.device.type == "meta"
    assert (moved.image_ids, moved.file_names) == ((7,), ("a.jpg",))
    assert (moved.indices, moved.flipped) == ((4,), (True,))


def test_all_that_a_batch_moves_is_pinned_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pinned where a DataLoader pins, which calls the method of that name."""
    pinned: list[int] = []

    def pin(tensor: Tensor) -> Tensor:
        copied = tensor.clone()
        pinned.append(id(copied))
        return copied

    moves: list[tuple[int, str, bool]] = []

    def move(tensor: Tensor, device: str, non_blocking: bool = False) -> Tensor:
        moves.append((id(tensor), device, non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch = pin_memory(small_batch())
    assert isinstance(batch, Batch)
    monkeypatch.setattr(Tensor, "to", move)
    batch.to("cuda:0")
    assert sorted(moves) == sorted((name, "cuda:0", True) for name in pinned)
    assert len(moves) == 6
    moves.clear()
    batch.to("cpu")
    assert len(moves) == 6 and not any(waits for *_, waits in moves)

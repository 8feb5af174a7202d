"""Which images form which batch."""

from __future__ import annotations

import itertools

import pytest

from bckd.datasets.annotations import ImageEntry
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import Key
from bckd.image_size import ImageSize


def images(wide: int, tall: int) -> list[ImageEntry]:
    """Wide and tall images mixed up, square ones among the tall."""
    sizes = [(60, 50)] * wide + [(30, 30 + 20 * (n % 2)) for n in range(tall)]
    sizes = sizes[::2] + sizes[1::2]
    return [ImageEntry(n, f"{n}.png", w, h) for n, (w, h) in enumerate(sizes)]


def batches(
    entries: list[ImageEntry],
    size: int,
    first: int = 0,
    last: int = 40,
    seed: int = 3,
    images_per_group: int | None = None,
) -> list[list[tuple[int, int]]]:
    sampler = TrainingBatches(entries, size, seed, first, last, images_per_group=images_per_group)
    return list(sampler)


def kinds(entries: list[ImageEntry], keys: list[tuple[int, int]]) -> list[bool]:
    """Whether each image of a batch is wide: mmdetection's group 1, of a ratio above 1."""
    return [entries[index].width / entries[index].height > 1 for _, index in keys]


@pytest.mark.parametrize(("wide", "tall"), [(13, 6), (12, 0), (0, 5), (1, 1)])
@pytest.mark.parametrize(("size", "group"), [(1, None), (4, None), (4, 2), (4, 1), (5, None)])
def test_every_epoch_covers_every_image(wide: int, tall: int, size: int, group: int | None) -> None:
    entries = images(wide, tall)
    per_epoch = TrainingBatches(entries, size, 0, 0, 1).per_epoch
    assert per_epoch == -(-wide // size) + -(-tall // size)
    found = batches(entries, size, last=3 * per_epoch, images_per_group=group)
    for epoch in range(3):
        keys = list(itertools.chain(*found[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert {e for e, _ in keys} == {epoch}
        drawn = [index for _, index in keys]
        assert set(drawn) == set(range(len(entries)))
        filled = per_epoch * size - len(entries)
        assert len(drawn) - len(set(drawn)) == filled, "only filling up repeats an image"


def test_batches_are_all_wide_or_all_tall_and_come_mixed() -> None:
    entries = images(44, 36)
    found = [kinds(entries, batch) for batch in batches(entries, 4, last=20)]
    assert all(len(set(kind)) == 1 for kind in found)
    order = [kind[0] for kind in found]
    assert (order.count(True), order.count(False)) == (11, 9)
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes > 4, "an epoch that ends with all its tall images forgets the wide ones"


def test_square_images_are_not_wide() -> None:
    entries = [ImageEntry(n, "", 30, 30 + 10 * (n % 2)) for n in range(8)]
    found = batches(entries, 8, last=1)
    assert set(found[0]) == {(0, n) for n in range(8)}, "square and tall ones share a batch"


class TestGroups:
    def test_a_batch_mixes_groups_that_are_all_wide_or_all_tall(self) -> None:
        entries = images(64, 48)
        mixed = 0
        for batch in batches(entries, 16, last=7, images_per_group=2):
            found = kinds(entries, batch)
            pairs = [found[n : n + 2] for n in range(0, 16, 2)]
            assert all(len(set(pair)) == 1 for pair in pairs)
            mixed += len(set(found)) == 2
        assert mixed > 4

    def test_a_group_of_a_batch_is_a_batch(self) -> None:
        entries = images(20, 9)
        assert batches(entries, 4, images_per_group=4) == batches(entries, 4)

    @pytest.mark.parametrize("group", [None, 1, 2, 4])
    def test_processes_share_what_one_has(self, group: int | None) -> None:
        """Whole groups, in their order, where a process has room for them."""
        entries = images(30, 11)
        options = {"images_per_group": group, "size": ImageSize(32, 64)}
        whole = list(TrainingBatches(entries, 8, 1, 2, 9, **options))
        for processes in (1, 2, 4, 8):
            shares = [
                list(TrainingBatches(entries, 8, 1, 2, 9, (process, processes), **options))
                for process in range(processes)
            ]
            assert all(len(keys) == 8 // processes for share in shares for keys in share)
            joined = [list(itertools.chain(*keys)) for keys in zip(*shares, strict=True)]
            assert joined == whole

    @pytest.mark.parametrize(("group", "runs"), [(None, 1), (2, 4)])
    def test_each_has_the_canvas_of_its_largest_images(self, group: int | None, runs: int) -> None:
        sizes = [(40 + 13 * (n % 7), 90 - 11 * (n % 5)) for n in range(40)]
        entries = [ImageEntry(n, "", w, h) for n, (w, h) in enumerate(sizes)]
        size = ImageSize(48, 80, pad_multiple=16)
        sampler = TrainingBatches(entries, 8, 0, 0, 20, images_per_group=group, size=size)
        several = False
        for batch in sampler:
            own = [
                size.canvas(entries[key.image].height, entries[key.image].width) for key in batch
            ]
            for start in range(0, 8, 8 // runs):
                part = slice(start, start + 8 // runs)
                tallest, widest = max(h for h, _ in own[part]), max(w for _, w in own[part])
                assert {key.canvas for key in batch[part]} == {(tallest, widest)}
            assert all(isinstance(key, Key) for key in batch)
            several |= len({key.canvas for key in batch}) > 1
        assert several == (runs > 1)

    @pytest.mark.parametrize("group", [None, 2])
    def test_two_canvases_hold_all_wide_and_all_tall_images(self, group: int | None) -> None:
        size = ImageSize(50, 80, pad_multiple=16)
        entries = images(44, 36)
        options = {"images_per_group": group, "size": size, "two_canvases": True}
        sampler = TrainingBatches(entries, 4, 3, 0, 40, **options)
        assert sampler.largest_canvas == (80, 80)
        seen = set()
        for batch in sampler:
            (wide,) = set(kinds(entries, [(key.epoch, key.image) for key in batch]))
            (canvas,) = {key.canvas for key in batch}
            assert canvas == ((64, 80) if wide else (80, 64))
            seen.add(canvas)
            for key in batch:
                entry = entries[key.image]
                own = size.canvas(entry.height, entry.width)
                assert all(side <= most for side, most in zip(own, canvas, strict=True))
        assert len(seen) == 2


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 23, 40])
def test_from_a_step_on_they_are_the_tail_of_the_whole_run(first: int, group: int | None) -> None:
    entries = images(13, 6)
    sampler = TrainingBatches(entries, 4, 3, first, 40, images_per_group=group)
    found = list(sampler)
    assert len(found) == len(sampler) == 40 - first
    assert found == batches(entries, 4, images_per_group=group)[first:]


def test_fewer_images_than_the_batch_size() -> None:
    found = batches(images(3, 0), 8, last=2)
    for epoch, batch in enumerate(found):
        assert len(batch) == 8
        assert set(batch) == {(epoch, index) for index in range(3)}


def test_order_depends_on_seed_and_epoch_alone() -> None:
    entries = images(20, 0)
    once, again, other = (batches(entries, 4, seed=seed) for seed in (3, 3, 4))
    assert once == again
    assert once != other
    first, second = ([[i for _, i in batch] for batch in once[n : n + 5]] for n in (0, 5))
    assert first != second

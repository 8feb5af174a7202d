"""Which images form which batch."""

from __future__ import annotations

import itertools

import pytest

from bckd.datasets.annotations import ImageEntry
from bckd.datasets.batches import TrainingBatches


def images(wide: int, tall: int) -> list[ImageEntry]:
    """Wide and tall images mixed up, square ones among the wide."""
    sizes = [(60, 40 + 20 * (n % 2)) for n in range(wide)] + [(30, 50)] * tall
    sizes = sizes[::2] + sizes[1::2]
    return [ImageEntry(n, f"{n}.png", w, h) for n, (w, h) in enumerate(sizes)]


def batches(
    entries: list[ImageEntry], size: int, first: int = 0, last: int = 40, seed: int = 3
) -> list[list[tuple[int, int]]]:
    return list(TrainingBatches(entries, size, seed, first, last))


@pytest.mark.parametrize(("wide", "tall"), [(13, 6), (12, 0), (0, 5), (1, 1)])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_every_epoch_covers_every_image(wide: int, tall: int, size: int) -> None:
    entries = images(wide, tall)
    per_epoch = TrainingBatches(entries, size, 0, 0, 1).per_epoch
    assert per_epoch == -(-wide // size) + -(-tall // size)
    found = batches(entries, size, last=3 * per_epoch)
    for epoch in range(3):
        keys = list(itertools.chain(*found[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert {e for e, _ in keys} == {epoch}
        drawn = [index for _, index in keys]
        assert set(drawn) == set(range(len(entries)))
        filled = per_epoch * size - len(entries)
        assert len(drawn) - len(set(drawn)) == filled, "only filling up repeats an image"


def test_batches_are_all_wide_or_all_tall() -> None:
    entries = images(11, 9)
    found = batches(entries, 4)
    kinds = [{entries[i].width >= entries[i].height for _, i in batch} for batch in found]
    assert all(len(kind) == 1 for kind in kinds)
    assert {True} in kinds[:6] and {False} in kinds[:6]


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 23, 40])
def test_from_a_step_on_they_are_the_tail_of_the_whole_run(first: int) -> None:
    entries = images(13, 6)
    sampler = TrainingBatches(entries, 4, 3, first, 40)
    found = list(sampler)
    assert len(found) == len(sampler) == 40 - first
    assert found == batches(entries, 4)[first:]


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

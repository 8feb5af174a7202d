from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bckd.bench.annotations import write_many_instances
from bckd.bench.photographs import draw, write_photographs
from bckd.datasets.annotations import read_annotations


def test_files_are_as_large_as_those_of_coco(tmp_path: Path) -> None:
    """train2017 has 163 KB an image on average, of some 640 x 480 pixels."""
    write_photographs(tmp_path, tmp_path / "instances.json", [(480, 640)] * 3, ["cup"])
    sizes = [path.stat().st_size for path in tmp_path.glob("*.jpg")]
    assert len(sizes) == 3
    assert 120_000 < np.mean(sizes) < 210_000


def test_power_falls_as_that_of_natural_images() -> None:
    """With the square of frequency: equally much in each octave, where noise has four times."""
    grey = draw(256, 256, np.random.default_rng(0)).mean(axis=2)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(256)] * 2))
    octaves = [
        power[(frequency >= 2.0**n) & (frequency < 2.0 ** (n + 1))].sum() for n in (-5, -4, -3)
    ]
    assert max(octaves) < 1.5 * min(octaves)


def test_the_seed_decides_and_annotations_fit(tmp_path: Path) -> None:
    shapes = [(48, 64), (64, 40)]
    for place in ("one", "other"):
        root = tmp_path / place
        write_photographs(root, root / "instances.json", shapes, ["cup", "hat"], seed=3)
    names = ["000000000001.jpg", "000000000002.jpg", "instances.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    annotations = read_annotations(tmp_path / "one" / names[2], tmp_path / "one")
    assert [(x.height, x.width) for x in annotations.images] == shapes
    assert all(len(annotations.objects_of(image.id).boxes) for image in annotations.images)


def test_many_instances_are_as_coco_has_them(tmp_path: Path) -> None:
    """As many boxes an image, as many bytes a box, of every class, each on its image."""
    path = tmp_path / "instances.json"
    count = write_many_instances(path, 2000, ("cat", "dog", "cow"))
    found = read_annotations(path)
    rows = found.content["annotations"]
    assert len(found.images) == 2000 and len(rows) == count
    assert count / 2000 == pytest.approx(860_001 / 118_287, rel=0.05)
    assert path.stat().st_size / count == pytest.approx(448e6 / 860_001, rel=0.15)
    assert {row["category_id"] for row in rows} == {1, 2, 3}
    assert not found.findings.oddities

"""What would help: each sentence appears where its rule is broken, and its value mends that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bckd.datasets.advice import advice, advice_on_run, advice_on_warm_up
from bckd.datasets.annotations import read_annotations
from bckd.datasets.object_sizes import object_sizes
from bckd.image_size import ImageSize
from tests.squares import squares

STRIDES = (8, 16, 32)


def option(sentence: str, name: str) -> list[float]:
    found = re.search(rf"--{name}((?: [\d.]+)+)", sentence)
    assert found is not None, sentence
    return [float(x) for x in found[1].split()]


def test_small_objects_get_a_size_that_shows_them_with_two_cells(tmp_path: Path) -> None:
    cells = squares(tmp_path, {"red": [120] * 30, "platelet": [40] * 30})
    (sentence,) = advice(cells, ImageSize(120, 160), STRIDES, 3.0)
    assert "'platelet' are below 10 pixels" in sentence and "finest cell is 8" in sentence
    (short,), (long,) = (option(sentence, f"data.size.{x}-side") for x in ("short", "long"))
    assert short % 32 == long % 32 == 0
    other = ImageSize(int(short), int(long))
    assert 16 <= object_sizes(cells, other)[1].median < 20
    assert advice(cells, other, STRIDES, 3.0) == []


def test_no_size_beyond_that_of_the_files(tmp_path: Path) -> None:
    dots = squares(tmp_path, {"dot": [6] * 30})
    (sentence,) = advice(dots, ImageSize(240, 320), STRIDES, 3.0)
    assert option(sentence, "data.size.short-side") == [480]
    assert option(sentence, "data.size.long-side") == [640]
    (sentence,) = advice(dots, ImageSize(480, 640), STRIDES, 3.0)
    assert "the files are no larger" in sentence


def test_large_objects_get_a_level(tmp_path: Path) -> None:
    large = squares(tmp_path, {"plate": [300] * 30})
    (sentence,) = advice(large, ImageSize(480, 640), STRIDES, 3.0)
    assert "above 300 pixels" in sentence and "coarsest anchor is 96" in sentence
    assert option(sentence, "model.strides") == [8, 16, 32, 64, 128]
    assert advice(large, ImageSize(480, 640), (8, 16, 32, 64, 128), 3.0) == []


def test_anchors_that_fit_few_boxes(tmp_path: Path) -> None:
    small = squares(tmp_path, {"bead": [17] * 30})
    size = ImageSize(480, 640)
    (sentence,) = advice(small, size, STRIDES, 9.0)
    assert "100 % of the boxes" in sentence and "(72 to 288 pixels)" in sentence
    (scale,) = option(sentence, "model.anchor-scale")
    assert 8 * scale < 4 * 17 and advice(small, size, STRIDES, scale) == []
    assert advice(small, size, STRIDES, None) == []


def test_levels_that_no_box_reaches(tmp_path: Path) -> None:
    small = squares(tmp_path, {"bead": [30] * 30})
    (sentence,) = advice(small, ImageSize(480, 640), (8, 16, 32, 64, 128), 8.0)
    assert "stride 128" in sentence
    assert option(sentence, "model.strides") == [8, 16, 32, 64]


def test_rare_classes_are_named_with_their_boxes(tmp_path: Path) -> None:
    rare = squares(tmp_path, {"cup": [60] * 30, "lid": [60] * 7, "pot": []})
    (sentence,) = advice(rare, ImageSize(480, 640), STRIDES, 4.0)
    assert "'lid' 7" in sentence and "pot" not in sentence and "cup" not in sentence


def test_nothing_to_learn_is_no_matter_of_advice(tmp_path: Path) -> None:
    empty = squares(tmp_path, {"cup": []} | {"lid": [0] * 3})
    assert advice(empty, ImageSize(480, 640), STRIDES, 4.0) == []


@pytest.mark.parametrize("scale", [3.0, None])
def test_the_scenes_need_none(scenes_root: Path, scale: float | None) -> None:
    scenes = read_annotations(scenes_root / "annotations/instances_train.json")
    found = advice(scenes, ImageSize(128, 128), STRIDES, scale)
    assert not [x for x in found if "fewer than" not in x]


ENOUGH = {"images": 2000, "passes": 30.0, "from_scratch": True, "validation_images": 200}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"passes": 0.5}, "sees 50 % of the images, and each once: --epochs 30"),
        ({"passes": 0.5, "from_scratch": False}, "--epochs 30"),
        ({"passes": 2.0}, "2 passes over the images are few to learn from scratch"),
        ({"passes": 2.0, "from_scratch": False}, None),
        ({"passes": 500.0}, "500 passes over the images are many"),
        ({"images": 300}, "300 images are few to learn from scratch"),
        ({"images": 300, "from_scratch": False}, None),
        ({"validation_images": 20}, "20 images to evaluate on are few"),
    ],
)
def test_a_run(changes: dict[str, Any], words: str | None) -> None:
    found = advice_on_run(**ENOUGH | changes)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_a_run_within_its_warm_up() -> None:
    assert advice_on_warm_up(101, 100) is None
    assert "within its warm-up of 100" in (advice_on_warm_up(100, 100) or "")

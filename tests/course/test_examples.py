"""Which detector and images the notebooks look at."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bckd.course import examples, lesson
from bckd.course.examples import photograph, real_or_scenes
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.image_size import ImageSize
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import Checkpoint, load_detector
from bckd.zoo.nanodet import SIZE, NanoDet

SHARED = os.environ.get("BCKD_SHARED")
TEACHER = Path(__file__).resolve().parents[2] / "data" / "weights" / "scenes_teacher.safetensors"


@pytest.fixture(autouse=True)
def empty_torch_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.delenv("BCKD_COCO", raising=False)
    monkeypatch.setattr(lesson, "SCENES", {"train": 1, "val": 2, "seed": 7})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The repository's data folder, with the teacher alone."""
    folder = tmp_path / "data"
    (folder / "weights").mkdir(parents=True)
    shutil.copy(TEACHER, folder / "weights")
    return folder


def write_coco(root: Path) -> None:
    """One photograph in COCO's layout, with its 80 classes."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "val2017" / "1.jpg")
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(COCO_CLASSES, 1)],
    }
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content), encoding="utf-8")


def put_nanodet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of NanoDet's name, which stands for random weights."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "nanodet_m.pth").write_bytes(b"")

    def load(source: Path | str) -> Checkpoint:
        return (
            Checkpoint(NanoDet().eval(), SIZE) if source == "nanodet_m" else load_detector(source)
        )

    monkeypatch.setattr(examples, "load_detector", load)


def test_scenes_without_weights_and_photographs(data: Path) -> None:
    detector, dataset, name = real_or_scenes(data)
    assert detector.class_names == dataset.annotations.class_names
    assert len(dataset) == 2
    assert name.startswith("the scenes' teacher on 2 scenes")


def test_scenes_are_drawn_once(data: Path) -> None:
    real_or_scenes(data)
    (picture, *_) = (data / "scenes-quickstart" / "val").iterdir()
    before = picture.stat().st_mtime_ns
    real_or_scenes(data)
    assert picture.stat().st_mtime_ns == before


def test_scenes_where_only_photographs_are_there(data: Path) -> None:
    write_coco(data / "coco")
    assert real_or_scenes(data).name.startswith("the scenes' teacher")


def test_scenes_where_only_weights_are_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nanodet(monkeypatch)
    detector, dataset, name = real_or_scenes(data)
    assert detector.class_names == dataset.annotations.class_names
    assert name.startswith("the scenes' teacher")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_photographs_where_both_are_there(
    elsewhere: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nanodet(monkeypatch)
    root = tmp_path / "photographs" if elsewhere else data / "coco"
    write_coco(root)
    if elsewhere:
        monkeypatch.setenv("BCKD_COCO", str(root))
    detector, dataset, name = real_or_scenes(data)
    assert dataset.annotations.class_names == detector.class_names
    assert (dataset.size, dataset.normalisation) == (SIZE, detector.normalisation)
    assert name == "NanoDet-m on 1 photographs of COCO"
    assert not (data / "scenes-quickstart").exists()


class TestPhotograph:
    def test_scene_in_its_place(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lesson, "SCENES", {"train": 1, "val": 5, "seed": 7})
        seen = photograph(data)
        assert seen.name == "the scenes' teacher on scene 3"
        assert seen.picture.shape == (128, 128, 3)
        fourth = data / "scenes-quickstart" / "val" / "000004.png"
        assert np.array_equal(seen.picture, np.asarray(Image.open(fourth)))
        again = seen.detector.normalisation.undo(seen.batch.images)[0].permute(1, 2, 0).numpy()
        assert np.abs(again * 255 - seen.picture).max() < 0.5 + 1e-3

    def test_the_last_of_fewer(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put_nanodet(monkeypatch)
        write_coco(data / "coco")
        seen = photograph(data)
        assert seen.name == "NanoDet-m on a photograph"
        assert len(seen.batch.images) == 1 and isinstance(seen.detector, NanoDet)

    def test_at_another_size(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lesson, "SCENES", {"train": 1, "val": 5, "seed": 7})
        plain, large = photograph(data), photograph(data, ImageSize(192, 192))
        assert large.picture.shape == (192, 192, 3) and plain.picture.shape == (128, 128, 3)
        twice = 1.5 * plain.batch.ground_truth.boxes
        assert torch.allclose(large.batch.ground_truth.boxes, twice)

    @pytest.mark.skipif(not SHARED, reason="BCKD_SHARED is not set: the folder that holds real/")
    def test_the_bus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put_nanodet(monkeypatch)
        monkeypatch.setenv("BCKD_COCO", f"{SHARED}/real/coco128")
        seen = photograph()
        bus = COCO_CLASSES.index("bus")
        assert bus in seen.batch.ground_truth.labels[0]
        red, green, blue = seen.picture[150:200, 100:220].reshape(-1, 3).mean(0)
        assert red > 1.5 * max(green, blue)


def test_with_consent_what_is_absent_is_fetched(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str) -> None:
        asked.append(name)
        put_nanodet(monkeypatch)

    def fetch_photographs(root: Path, count: int) -> None:
        asked.append(count)
        write_coco(root)

    monkeypatch.setattr(examples, "fetch", fetch)
    monkeypatch.setattr(examples, "fetch_photographs", fetch_photographs)
    assert real_or_scenes(data, download=True).name == "NanoDet-m on 1 photographs of COCO"
    assert asked == ["nanodet_m", 128]
    assert real_or_scenes(data).name == "NanoDet-m on 1 photographs of COCO"  # from now on


def test_photographs_that_are_there_are_not_fetched(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nanodet(monkeypatch)
    write_coco(data / "coco")
    monkeypatch.setattr(examples, "fetch", lambda name: None)
    assert real_or_scenes(data, download=True).name == "NanoDet-m on 1 photographs of COCO"


def test_a_folder_that_is_no_coco_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCKD_COCO", str(data))
    with pytest.raises(InputError, match=r"BCKD_COCO is .*instances_val2017\.json does not exist"):
        real_or_scenes(data)

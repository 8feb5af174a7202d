"""The AP of exported files beside PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bckd.commands.main import run
from bckd.datasets.coco import CocoDataset
from bckd.export import exporting
from bckd.export.verification import Verification
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.prediction import LoadedDetector
from bckd.recipes import DataConfig
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.training import evaluating_exported
from bckd.training.evaluating_exported import compare_scores, verification_data
from bckd.zoo.checkpoints import save_detector

TEACHER = Path(__file__).parents[2] / "data" / "weights" / "scenes_teacher.safetensors"
FILES = (Path("s.onnx"), Path("s.pt2"))


@pytest.fixture
def data(tiny_recipe: object) -> DataConfig:
    """Eight scenes to evaluate on, at the size of the teacher."""
    size = replace(tiny_recipe.data.size, short_side=128, long_side=128)
    return replace(tiny_recipe.data, size=size)


@pytest.fixture
def known(data: DataConfig) -> tuple[DenseDetector, CocoDataset]:
    return verification_data(TEACHER, data)


def as_files(monkeypatch: pytest.MonkeyPatch, detector: DenseDetector, moved: float = 0.0) -> None:
    """Let every file detect what the detector does, moved to the right by so many pixels."""

    def detect(images: Tensor, sizes: Tensor) -> list[Detections]:
        shift = torch.tensor([moved, 0.0, moved, 0.0])
        with torch.no_grad():
            return [replace(x, boxes=x.boxes + shift) for x in detector.detect(images, sizes)]

    for name in ("onnx_detect", "program_detect"):
        monkeypatch.setattr(evaluating_exported, name, lambda path: detect)


def test_both_are_printed(
    known: tuple[DenseDetector, CocoDataset],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    as_files(monkeypatch, known[0])
    assert compare_scores(*known, FILES, progress=False) == {}
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(file) for file in FILES]
    for line in lines:
        found, expected = line.split()[2], line.split()[-1]
        assert float(found) == float(expected) > 30
        assert "on 8 images" in line


def test_another_AP_is_a_fault(
    known: tuple[DenseDetector, CocoDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_files(monkeypatch, known[0], moved=3.0)
    faults = compare_scores(*known, FILES, progress=False)
    assert set(faults) == set(FILES)
    assert "expected them to differ by at most 0.1" in faults[FILES[0]]


def test_a_file_of_pixels(
    known: tuple[DenseDetector, CocoDataset],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector = LoadedDetector(known[0], known[1].size)

    def detect(pixels: np.ndarray) -> list[Detections]:
        found = detector.predict([*pixels], threshold=0.0)
        return [Detections(x.boxes, x.scores, x.labels) for x in found]

    monkeypatch.setattr(evaluating_exported, "pixels_detect", lambda path: detect)
    assert compare_scores(*known, FILES[:1], preprocess=True, progress=False) == {}
    assert "s.onnx: AP " in capsys.readouterr().out


def test_images_that_are_too_small_for_a_program(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(data, size=replace(data.size, short_side=32, long_side=32))
    known = verification_data(TEACHER, small)
    as_files(monkeypatch, known[0])
    faults = compare_scores(*known, FILES, progress=False)
    assert set(faults) == {FILES[1]}
    assert "8 images are small once brought to size, as 32 x 32 pixels" in faults[FILES[1]]


def test_classes_of_the_data_in_another_order(
    tiny_detector: Callable[..., Detector], custom_root: Path, tmp_path: Path
) -> None:
    """Labels are the detector's; what the data have boxes of, it has to know."""
    data = DataConfig(root=custom_root, val_images="val", workers=0)
    data = replace(data, val_annotations="annotations/instances_val.json")
    for names in (("washer", "nut", "bolt", "screw"), ("washer", "nut")):
        save_detector(tmp_path / "s.safetensors", tiny_detector(names), data.size, {})
        if len(names) == 4:
            detector, dataset = verification_data(tmp_path / "s.safetensors", data)
            assert detector.class_names == names
            assert dataset.annotations.category_ids == (7, 3, None, 20)
        else:
            with pytest.raises(InputError, match="boxes of 'screw'"):
                verification_data(tmp_path / "s.safetensors", data)


class TestCommand:
    def test_what_cannot_be_written_ends_with_1(
        self,
        tiny_detector: Callable[..., Detector],
        data: DataConfig,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "s.safetensors"
        save_detector(path, tiny_detector(), data.size, {})
        assert run(["export", str(path), "--official", str(tmp_path / "s.pth")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"bckd: error: {tmp_path / 's.pth'} is not written: gfl on small_re")

    @pytest.mark.parametrize(("moved", "code"), [(0.0, 0), (3.0, 1)])
    def test_verify(
        self,
        data: DataConfig,
        known: tuple[DenseDetector, CocoDataset],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        moved: float,
        code: int,
    ) -> None:
        as_files(monkeypatch, known[0], moved)
        same = Verification(30, 0, 0.0, 0.0)
        for name, found in (("trace", None), ("program_bytes", b""), ("compare", same)):
            monkeypatch.setattr(exporting, name, lambda *given, found=found: found)
        monkeypatch.setattr(exporting, "program_detect", lambda path: None)
        words = ["--data.val-annotations", data.val_annotations, "--data.val-images", "val"]
        words += ["--data.root", str(data.root), "--data.workers", "0", "--verify"]
        words = ["export", str(TEACHER), "--program", str(tmp_path / "s.pt2"), *words]
        assert run(words) == code
        said = capsys.readouterr()
        assert ("PyTorch's is" in said.err) == bool(code)
        assert ("PyTorch's is" in said.out) == (not code)

    def test_nothing_to_verify(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--verify is for ONNX files and programs"):
            run(["export", str(TEACHER), "--official", str(tmp_path / "s.pth"), "--verify"])

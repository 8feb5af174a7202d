"""Detectors on disk."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bckd.checkpoints import (
    STUDENT,
    load_detector,
    read_tensors,
    save_detector,
    save_tensors,
)
from bckd.datasets.coco import ImageSize
from bckd.errors import InputError
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.official import official_name
from bckd.models.postprocess import PostProcess

CLASSES = ("schraube", "ナット", 'wash"er')
SIZE = ImageSize(short_side=96, long_side=160, pad_multiple=16)


@pytest.fixture
def saved(tmp_path: Path, tiny_detector: Callable[..., Detector]) -> tuple[Path, Detector]:
    detector = tiny_detector(CLASSES, strides=(8, 16), postprocess=PostProcess(nms_iou=0.55))
    path = tmp_path / "detector.safetensors"
    save_detector(path, detector, SIZE, {"AP": 0.25, "seed": 3})
    return path, detector


def error_of(path: Path, class_names: tuple[str, ...] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_detector(path, class_names)
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestOurs:
    def test_round_trip(self, saved: tuple[Path, Detector]) -> None:
        path, detector = saved
        found = load_detector(path)
        assert found.detector.class_names == CLASSES
        assert found.detector.config == detector.config
        assert found.size == SIZE
        assert found.record == {"AP": 0.25, "seed": 3}
        assert not found.detector.training
        own = detector.state_dict()
        assert list(found.detector.state_dict()) == list(own)
        for name, value in found.detector.state_dict().items():
            assert torch.equal(value, own[name]) and value.dtype == own[name].dtype, name

    def test_outputs_are_bit_identical(self, saved: tuple[Path, Detector]) -> None:
        path, detector = saved
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(detector(images).boxes, load_detector(path).detector(images).boxes)

    def test_the_folder_of_a_run(self, saved: tuple[Path, Detector]) -> None:
        path, _ = saved
        path.rename(path.parent / STUDENT)
        assert load_detector(path.parent).detector.class_names == CLASSES

    def test_pretrained_weights_are_not_asked_for_again(self, tmp_path: Path) -> None:
        config = DetectorConfig(
            backbone="resnet18", pretrained=False, channels=8, head_groups=2, head_convs=1
        )
        detector = Detector(config, ("one",))
        detector.config = replace(config, pretrained=True)  # as if it had begun from ImageNet
        save_detector(tmp_path / "d.safetensors", detector, SIZE, {})
        assert load_detector(tmp_path / "d.safetensors").detector.config.pretrained is False

    def test_weights_of_another_model(self, saved: tuple[Path, Detector], tmp_path: Path) -> None:
        path, detector = saved
        detector.head.cls = torch.nn.Conv2d(8, 5, 3, padding=1)
        save_detector(path, detector, SIZE, {})
        message = error_of(path)
        assert "another model" in message and "head.cls.weight" in message
        detector.neck.further = torch.nn.Linear(1, 1)
        save_detector(path, detector, SIZE, {})
        assert "neck.further" in error_of(path)

    def test_no_file(self, tmp_path: Path) -> None:
        assert "does not exist" in error_of(tmp_path / "nothing.safetensors")

    def test_a_folder_without_a_student(self, tmp_path: Path) -> None:
        assert STUDENT in error_of(tmp_path / "run" / STUDENT)
        with pytest.raises(InputError, match=STUDENT):
            load_detector(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no tensors at all", b"\xff" * 64])
    def test_another_kind_of_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file.safetensors"
        path.write_bytes(content)
        assert "no safetensors file" in error_of(path)

    def test_a_file_cut_short(self, saved: tuple[Path, Detector]) -> None:
        path, _ = saved
        path.write_bytes(path.read_bytes()[:-100])
        assert "no safetensors file" in error_of(path)

    def test_somebody_elses_tensors(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_file({"weight": torch.zeros(2)}, path)
        assert "no detector of bckd" in error_of(path)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    """A checkpoint as the official code writes it, of a ResNet-18 detector of two classes."""
    torch.manual_seed(4)
    detector = Detector(DetectorConfig(backbone="resnet18", pretrained=False), ("a", "b"))
    weights = {official_name(name, "gfl"): x for name, x in detector.state_dict().items()}
    weights["bbox_head.integral.project"] = torch.arange(17.0)
    path = tmp_path_factory.mktemp("official") / "gfl_r18.pth"
    torch.save({"state_dict": weights, "meta": {"epoch": 12}}, path)
    return path, detector


class TestOfficial:
    def test_every_weight_arrives(self, official: tuple[Path, Detector]) -> None:
        path, detector = official
        found = load_detector(path, ("cat", "dog"))
        assert found.detector.class_names == ("cat", "dog")
        assert found.detector.config == detector.config
        assert not found.detector.training
        assert "bbox_head.integral.project" in found.record["report"]
        for name, value in found.detector.state_dict().items():
            assert torch.equal(value, detector.state_dict()[name]), name

    def test_classes_are_numbered_where_nobody_names_them(
        self, official: tuple[Path, Detector]
    ) -> None:
        assert load_detector(official[0]).detector.class_names == ("class 0", "class 1")

    def test_another_number_of_classes(self, official: tuple[Path, Detector]) -> None:
        message = error_of(official[0], ("a", "b", "c"))
        assert "2 classes" in message and "3" in message

    def test_no_file(self, tmp_path: Path) -> None:
        assert "does not exist" in error_of(tmp_path / "nothing.pth")

    def test_code_in_the_file_is_not_run(self, tmp_path: Path) -> None:
        path, trace = tmp_path / "evil.pth", tmp_path / "trace"
        path.write_bytes(pickle.dumps(_Touch(trace), protocol=2))
        error_of(path)
        assert not trace.exists()


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_saved_file_holds_tensors_of_the_detector_alone(saved: tuple[Path, Detector]) -> None:
    path, detector = saved
    assert set(load_file(path)) == set(detector.state_dict())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    """safetensors has the entries of a header in an order of its own, another at each call."""
    header = {f"key {n}": f'"{n}" \u00df' for n in range(20)}
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.zeros(0)}
    for name in "xy":
        save_tensors(tmp_path / name, tensors, header)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    found, text = read_tensors(tmp_path / "x")
    assert text == header and found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())

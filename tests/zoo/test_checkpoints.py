"""Detectors on disk."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bckd.datasets.scene_drawing import class_names
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.postprocess import PostProcess
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training import trainer
from bckd.weights.tensor_files import read_tensors, save_tensors
from bckd.zoo import nanodet
from bckd.zoo.checkpoints import load_detector, load_module, recorded_size, save_detector
from bckd.zoo.official import official_name
from bckd.zoo.unfinished import STATE, STUDENT

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
        assert "not a checkpoint of GFL" in error_of(path)


def with_header(path: Path, **changes: str | None) -> Path:
    """The file with entries of its header replaced, or left out."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata() | changes
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(load_file(path), path, kept)
    return path


SMALL = '{"head_groups": 7, "backbone": "small_resnet", "frozen_stages": 0}'
HUGE = '{"width": 4096, "channels": 4096, "backbone": "small_resnet", "frozen_stages": 0}'


class TestHeader:
    """What a header says is checked before memory is asked for; a sentence names the entry."""

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"model": None}, "model is missing"),
            ({"size": None}, "size is missing"),
            ({"record": None}, "record is missing"),
            ({"class_names": None}, "class_names is missing"),
            ({"model": '{"channels": "8"}'}, "model.channels is '8'; expected a whole number"),
            ({"model": '{"channels": -1}'}, "model.channels is -1; expected 1 or more"),
            ({"model": '{"width": 1000000}'}, "model.width is 1000000; expected 4096 or less"),
            ({"model": '{"strides": null}'}, "model.strides is None; expected a list"),
            ({"model": HUGE}, "holds weights of another model: missing"),
            ({"model": '{"backbone": "small_resnet"}'}, "backbone 'small_resnet' learns from scr"),
            ({"model": SMALL}, "num_channels .256. must be"),
            ({"model": '{"strides": []}'}, "model.strides is .*; expected 1 or more values"),
            ({"model": "[" * 10**5}, "model in its header is nested too deeply"),
            ({"model": '{"width": ' + "9" * 5000 + "}"}, "model in its header is not valid JSON"),
            ({"size": "5"}, "size is 5; expected the fields of ImageSize"),
            ({"size": "{"}, "size in its header is not valid JSON"),
            ({"class_names": "[1, 2, 3]"}, "class_names.0 is 1; expected text"),
            ({"class_names": "[]"}, "class_names is ..; expected 1 or more values"),
            ({"record": '{"AP": "x"}'}, "record: AP is 'x'; expected a number"),
            ({"record": "[]"}, r"record is \[\]; expected names and values"),
        ],
    )
    def test_faults(
        self, saved: tuple[Path, Detector], changes: dict[str, str | None], sentence: str
    ) -> None:
        with pytest.raises(InputError, match=f"detector.safetensors.* ?{sentence}"):
            load_detector(with_header(saved[0], **changes))

    def test_a_recorded_nan_is_no_record(self, saved: tuple[Path, Detector]) -> None:
        path = with_header(saved[0], record='{"AP": NaN}')
        assert load_detector(path).record == {"AP": None}

    @pytest.mark.parametrize("kind", ["bckd-detector", "bckd-torchvision", "bckd-module"])
    def test_of_a_later_version(self, saved: tuple[Path, Detector], kind: str) -> None:
        tensors, header = read_tensors(saved[0])
        save_tensors(saved[0], tensors, {**header, "format": f"{kind}-12"})
        with pytest.raises(InputError, match=f"later version of bckd .{kind}-12.; expected {kind}"):
            load_detector(saved[0])

    def test_weights_that_are_no_numbers(self, saved: tuple[Path, Detector]) -> None:
        path, detector = saved
        for name in ("head.cls.weight", "head.cls.bias"):
            detector.state_dict()[name].fill_(torch.nan)
        save_detector(path, detector, SIZE, {})
        assert "not finite numbers (2): head.cls.weight, head.cls.bias" in error_of(path)

    def test_trying_it_without_memory_draws_no_random_numbers(
        self, saved: tuple[Path, Detector]
    ) -> None:
        torch.manual_seed(0)
        load_detector(saved[0])
        found = torch.rand(1)
        torch.manual_seed(0)
        Detector(saved[1].config, CLASSES)
        assert torch.equal(found, torch.rand(1))


class TestUnfinished:
    """A run without a student: its newest state or snapshot is opened."""

    @pytest.fixture
    def stopped(self, tiny_recipe: Recipe) -> Path:
        """Stopped at step 3, before its student was written, after a snapshot at step 2."""
        recipe = replace(tiny_recipe, evaluate_every=2, steps=3)
        (trainer.train(recipe, progress=False).out / STUDENT).unlink()
        return recipe.out

    def test_its_state(self, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        found = load_detector(stopped)
        told = f"{stopped} holds no {STUDENT}: its newest state, {STATE}, is used\n"
        assert capsys.readouterr().out == told
        assert found.record == {"steps": 3} and found.size == recorded_size(stopped)
        assert found.detector.class_names == class_names("standard")
        state = load_file(stopped / STATE)
        for name, value in found.detector.state_dict().items():
            assert torch.equal(value, state[f"model/{name}"]), name
        alone = load_detector(stopped / STATE)
        assert alone.detector.config == found.detector.config

    def test_its_snapshot(self, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path in stopped.glob("resume*"):
            path.write_bytes(b"damaged")
        assert load_detector(stopped).record["steps"] == 2
        assert "000002.safetensors, is used" in capsys.readouterr().out

    def test_an_early_state_has_its_names_from_the_data(self, stopped: Path) -> None:
        path = with_header(stopped / STATE, class_names=None, checksum=None)
        assert load_detector(path).detector.class_names == class_names("standard")
        with safe_open(path, framework="pt") as file:
            recipe = json.loads(file.metadata()["recipe"])
        recipe["data"]["root"] = "gone"
        with_header(path, recipe=json.dumps(recipe))
        assert load_detector(path, tuple("abcdef")).detector.class_names == tuple("abcdef")
        assert "does not name its classes" in error_of(path)

    def test_starts_another_run(self, stopped: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
        recipe = replace(tiny_recipe, start=stopped, out=tmp_path / "second", steps=1)
        assert (trainer.train(recipe, progress=False).out / STUDENT).exists()


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


def test_the_size_alone_is_that_of_the_whole(
    saved: tuple[Path, Detector], official: tuple[Path, Detector], tmp_path: Path
) -> None:
    """Of each kind of source."""
    shutil.copy(saved[0], tmp_path / STUDENT)
    for source in (saved[0], tmp_path, official[0]):
        assert recorded_size(source) == load_detector(source).size, source
    assert recorded_size("nanodet_m") == nanodet.SIZE
    for absent in (tmp_path / "absent.pth", tmp_path / "absent"):
        for read in (recorded_size, load_detector):
            with pytest.raises(InputError, match=f"^{absent} does not exist; expected a run"):
                read(absent)


def test_a_detector_is_no_module_of_ones_own(saved: tuple[Path, Detector]) -> None:
    path, detector = saved
    with pytest.raises(InputError, match="holds a detector, no weights of a module"):
        load_module(path, detector)


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

    @pytest.mark.parametrize(
        ("given", "taken"), [(("cat", "dog"), "cat, dog"), (None, "class 0, class 1")]
    )
    def test_an_order_that_nobody_wrote_down_is_told(
        self,
        official: tuple[Path, Detector],
        given: tuple[str, ...] | None,
        taken: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        load_detector(official[0], given)
        sentence = f"{official[0]} does not name its classes; they are taken in this order: {taken}"
        assert capsys.readouterr().out == f"{sentence}\n"

    @pytest.mark.parametrize(
        "meta",
        [
            {"CLASSES": ("b", "a")},
            {"classes": ["b", "a"]},
            {"dataset_meta": {"classes": ["b", "a"]}},
            {"dataset_meta": {"CLASSES": ("b", "a"), "PALETTE": [(1, 2, 3)]}},
        ],
    )
    def test_names_wherever_a_version_has_them(
        self, official: tuple[Path, Detector], tmp_path: Path, meta: dict
    ) -> None:
        content = torch.load(official[0], weights_only=True)
        torch.save({**content, "meta": meta}, tmp_path / "named.pth")
        assert load_detector(tmp_path / "named.pth", ("a", "b")).detector.class_names == ("b", "a")

    @pytest.mark.parametrize(
        ("meta", "sentence"),
        [
            ({"CLASSES": 5}, "its class names are 5; expected a list of texts"),
            ({"CLASSES": torch.ones(2)}, "its class names are tensor"),
            ({"CLASSES": [1, 2]}, "its class names are .1, 2.; expected"),
            ({"CLASSES": "nut"}, "its weights are of 2 classes, its meta names 1"),
            ({"CLASSES": "abc"}, "its weights are of 2 classes, its meta names 1"),
            ({"bckd": "{"}, "the settings in its meta is not valid JSON"),
            ({"bckd": '{"size": {}}'}, "the settings in its meta: model is missing"),
        ],
    )
    def test_a_strange_meta(
        self, official: tuple[Path, Detector], tmp_path: Path, meta: dict, sentence: str
    ) -> None:
        content = torch.load(official[0], weights_only=True)
        torch.save({**content, "meta": meta}, tmp_path / "odd.pth")
        with pytest.raises(InputError, match=f"odd.pth: {sentence}"):
            load_detector(tmp_path / "odd.pth")

    @pytest.mark.parametrize(
        ("wrap", "notes"),
        [
            (lambda w: {f"module.{k}": x for k, x in w.items()}, ["the prefix 'module.'"]),
            (lambda w: {f"module.architecture.{k}": x for k, x in w.items()}, ["the prefix"]),
            (
                lambda w: (
                    {f"teacher.{k}": x * 0 for k, x in w.items()}
                    | {f"student.{k}": x for k, x in w.items()}
                ),
                ["the prefix 'student.'", "entries of another detector are left out: teacher."],
            ),
            (
                lambda w: w | {"ema_" + k.replace(".", "_"): x * 0 for k, x in w.items()},
                ["entries of another detector are left out: ema_backbone_conv1_weight, "],
            ),
            (
                lambda w: w | {f"teacher.model.{k}": x * 0 for k, x in w.items()},
                ["entries of another detector are left out: teacher.model.backbone.conv1"],
            ),
        ],
    )
    def test_prefixes_are_taken_off_and_told(
        self,
        official: tuple[Path, Detector],
        tmp_path: Path,
        wrap: Callable[[dict], dict],
        notes: list[str],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        weights = torch.load(official[0], weights_only=True)["state_dict"]
        meta = {"CLASSES": ("a", "b")}
        torch.save({"state_dict": wrap(weights), "meta": meta}, tmp_path / "wrapped.pth")
        found = load_detector(tmp_path / "wrapped.pth").detector
        for name, value in found.state_dict().items():
            assert torch.equal(value, official[1].state_dict()[name]), name
        lines = capsys.readouterr().out.splitlines()
        for line, note in zip(lines, notes, strict=True):
            assert line.startswith(f"{tmp_path / 'wrapped.pth'}: ") and note in line

    def test_averaged_weights_beside_are_told(
        self, official: tuple[Path, Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = torch.load(official[0], weights_only=True)
        torch.save({**content, "state_dict_ema": content["state_dict"]}, tmp_path / "ema.pth")
        load_detector(tmp_path / "ema.pth", ("a", "b"))
        assert "in state_dict are taken, not those in state_dict_ema" in capsys.readouterr().out

    def test_a_prefix_of_some_entries_alone_is_refused(
        self, official: tuple[Path, Detector], tmp_path: Path
    ) -> None:
        weights = torch.load(official[0], weights_only=True)["state_dict"]
        neck = {f"module.{k}" if k.startswith("neck") else k: x for k, x in weights.items()}
        torch.save(neck, tmp_path / "part.pth")
        assert "missing" in error_of(tmp_path / "part.pth", ("a", "b"))

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

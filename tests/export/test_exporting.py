"""Detectors as files that other programs read."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from bckd.export import exporting
from bckd.export.exporting import NotWrittenError, export_onnx, export_program, run_export
from bckd.export.graphs import METADATA_FILE
from bckd.export.metadata import metadata_of
from bckd.export.official import export_official
from bckd.export.options import ExportOptions
from bckd.export.verification import Detect, Verification, compare, verification_of
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.postprocess import PostProcess
from bckd.normalisation import CAFFE, NANODET
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import Checkpoint, load_detector, recorded_size, save_detector
from bckd.zoo.nanodet import NanoDet
from bckd.zoo.official import load_official
from bckd.zoo.wrapped import read_official

onnx = pytest.importorskip("onnx")
HEADS = ("gfl", "retinanet", "fcos", "atss")
STRIDES = {"gfl": (8, 16, 32)}  # of one family; two levels of the others: a graph takes seconds
CLASSES = ("schraube", "ナット", 'wash"er')
SIZE = ImageSize(short_side=90, long_side=160)
BOXES, SCORES = 1e-2, 1e-4  # pixels; what another runtime may differ by


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def spread(detector: Detector) -> Detector:
    """The detector with scores far from one another: tens of detections on noise, none on zeros."""
    detector.head.cls.weight *= 1.5 / detector(noise(96, 128)).cls_logits.std()
    detector.head.cls.bias.fill_(-4.0)
    detector.head.box.weight *= 2000.0 if detector.config.head == "retinanet" else 20.0
    return detector


@dataclass(frozen=True)
class Exported:
    """A tiny detector, both of its files, as functions too, and what writing them said."""

    checkpoint: Checkpoint
    onnx: Path
    program: Path
    loaded: ExportedProgram
    detect: dict[str, Detect]
    verified: dict[str, Verification]
    said: str

    def expected(self, images: Tensor, sizes: Tensor) -> Detections:
        with torch.no_grad():
            (found,) = self.checkpoint.detector.detect(images, sizes)
        return found


@pytest.fixture(scope="module", params=HEADS)
def exported(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_detector: Callable[..., Detector],
) -> Exported:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp(request.param)
    strides = STRIDES.get(request.param, (16, 32))
    detector = spread(tiny_detector(CLASSES, head=request.param, strides=strides))
    save_detector(folder / "student.safetensors", detector, SIZE, {})
    options = ExportOptions(onnx=folder / "a" / "s.onnx", program=folder / "b" / "s.pt2")
    said, kept, loaded = io.StringIO(), [], []
    load = torch.export.load  # which takes seconds: what it gives is kept, and so what is compared

    def load_and_keep(path: Path) -> ExportedProgram:
        loaded.append(load(path))
        return loaded[-1]

    def compare_and_keep(checkpoint: Checkpoint, detect: Detect) -> Verification:
        kept.append(detect)
        return compare(checkpoint, detect)

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        patch.setattr(exporting, "compare", compare_and_keep)
        patch.setattr(torch.export, "load", load_and_keep)
        verified = run_export(folder, options)
    detect = dict(zip(("onnx", "program"), kept, strict=True))
    checkpoint = load_detector(folder)
    (program,) = loaded
    return Exported(
        checkpoint, options.onnx, options.program, program, detect, verified, said.getvalue()
    )


class TestGraphs:
    """ONNX files in onnxruntime, and exported programs, against PyTorch."""

    @pytest.mark.parametrize("kind", ["onnx", "program"])
    @pytest.mark.parametrize(
        ("shape", "size"),
        [
            ((96, 128), (96, 128)),
            ((96, 128), (70, 101)),
            ((64, 64), (64, 64)),
            ((160, 352), (151, 350)),
            ((100, 131), (99, 131)),  # no multiples of the coarsest stride
        ],
    )
    def test_any_image_size(
        self, exported: Exported, kind: str, shape: tuple[int, int], size: tuple[int, int]
    ) -> None:
        images, sizes = noise(*shape, seed=1), torch.tensor([size])
        check(exported, kind, images, sizes, at_least=15)

    @pytest.mark.parametrize("shape", [(32, 32), (32, 256), (256, 32)])
    def test_onnx_takes_one_cell(self, exported: Exported, shape: tuple[int, int]) -> None:
        check(exported, "onnx", noise(*shape), torch.tensor([shape]), at_least=1)

    @pytest.mark.parametrize("exported", ["gfl"], indirect=True)  # the pyramid's: of any family
    def test_a_program_refuses_one_cell(self, exported: Exported) -> None:
        sizes = torch.tensor([[32, 256]])
        with pytest.raises((RuntimeError, AssertionError)):
            exported.detect["program"](noise(32, 256), sizes)

    @pytest.mark.parametrize("kind", ["onnx", "program"])
    def test_nothing_to_detect(self, exported: Exported, kind: str) -> None:
        images, sizes = torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]])
        assert len(exported.expected(images, sizes).scores) == 0
        (found,) = exported.detect[kind](images, sizes)
        assert [tuple(x.shape) for x in (found.boxes, found.scores, found.labels)] == [
            (0, 4),
            (0,),
            (0,),
        ]

    @pytest.mark.parametrize("kind", ["onnx", "program"])
    def test_any_number_of_images(self, exported: Exported, kind: str) -> None:
        images = torch.cat([noise(96, 128, seed=4), torch.zeros(1, 3, 96, 128), noise(96, 128)])
        sizes = torch.tensor([[96, 128], [90, 101], [64, 120]])
        with torch.no_grad():
            expected = exported.checkpoint.detector.detect(images, sizes)
        found = exported.detect[kind](images, sizes)
        assert [len(x.scores) > 10 for x in expected] == [True, False, True]
        for ours, theirs in zip(found, expected, strict=True):
            check_same(ours, theirs)

    @pytest.mark.parametrize("kind", ["onnx", "program"])
    def test_one_detection(self, exported: Exported, kind: str) -> None:
        sizes = torch.tensor([[64, 64]])
        contrasts = (x / 200 * noise(64, 64, seed=x % 4) for x in range(4, 60))
        images = next(x for x in contrasts if len(exported.expected(x, sizes).scores) == 1)
        check(exported, kind, images, sizes, at_least=1)

    def test_one_line_a_file(self, exported: Exported) -> None:
        lines = exported.said.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [
            str(exported.onnx),
            str(exported.program),
        ]
        assert all("detections of PyTorch on a test image, boxes" in line for line in lines)

    def test_the_agreement_is_reported(self, exported: Exported) -> None:
        assert set(exported.verified) == {"onnx", "program"}
        for found in exported.verified.values():
            assert found.detections >= 1 and found.missed == 0
            assert found.boxes <= BOXES and found.scores <= SCORES

    def test_nothing_else_is_written(self, exported: Exported) -> None:
        assert [x.name for x in exported.onnx.parent.iterdir()] == ["s.onnx"]
        assert [x.name for x in exported.program.parent.iterdir()] == ["s.pt2"]

    def test_onnx_is_valid_and_names_its_sides(self, exported: Exported) -> None:
        model = onnx.load(exported.onnx)
        onnx.checker.check_model(model, full_check=True)
        assert {x.domain for x in model.opset_import} == {""}  # no operator of one runtime alone
        sides = {
            x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
            for x in (*model.graph.input, *model.graph.output)
        }
        assert sides == {
            "images": ["batch", 3, "height", "width"],
            "sizes": ["batch", 2],
            "boxes": ["detections", 4],
            "scores": ["detections"],
            "labels": ["detections"],
            "counts": ["batch"],
        }

    def test_both_carry_the_metadata(self, exported: Exported) -> None:
        expected = metadata_of(exported.checkpoint)
        props = {x.key: x.value for x in onnx.load(exported.onnx).metadata_props}
        assert props == expected
        with zipfile.ZipFile(exported.program) as archive:
            (name,) = [x for x in archive.namelist() if x.endswith(f"/extra/{METADATA_FILE}")]
            assert json.loads(archive.read(name)) == expected
        assert tuple(json.loads(props["class_names"])) == CLASSES
        assert json.loads(props["image_size"])["short_side"] == 90
        assert json.loads(props["normalisation"])["mean"] == [0.485, 0.456, 0.406]

    def test_a_program_moves_as_its_usage_says(self, exported: Exported) -> None:
        usage = metadata_of(exported.checkpoint)["usage"]
        assert "move_to_device_pass" in usage and "import torchvision" in usage
        moved = move_to_device_pass(copy.deepcopy(exported.loaded), "meta")
        held = [*moved.state_dict.values(), *moved.constants.values()]
        assert {x.device.type for x in held if isinstance(x, Tensor)} == {"meta"}
        named = {
            str(node.kwargs["device"])
            for graph in moved.graph_module.modules()
            for node in graph.graph.nodes
            if "device" in node.kwargs
        }
        assert named == {"meta"}

    def test_no_path_of_the_source_is_inside(self, exported: Exported) -> None:
        with zipfile.ZipFile(exported.program) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
        for text in (content, exported.onnx.read_bytes()):
            assert b"exportable.py" not in text and b"site-packages" not in text


def check(exported: Exported, kind: str, images: Tensor, sizes: Tensor, at_least: int) -> None:
    """Both find the same, but for the order of scores that are equal up to rounding."""
    expected = exported.expected(images, sizes)
    (found,) = exported.detect[kind](images, sizes)
    assert len(expected.scores) >= at_least
    check_same(found, expected)


def check_same(found: Detections, expected: Detections) -> None:
    assert found.labels.dtype == torch.int64
    assert (found.scores[:-1] >= found.scores[1:]).all()
    agreement = verification_of(expected, found)
    assert agreement.missed == 0, agreement
    assert agreement.boxes <= BOXES and agreement.scores <= SCORES


def test_metadata_tell_how_to_pad(tiny_detector: Callable[..., Detector]) -> None:
    detector = tiny_detector(normalisation=CAFFE)
    corner = metadata_of(Checkpoint(detector, ImageSize()))
    assert "on the right and at the bottom" in corner["usage"]
    assert "above 32," in corner["usage"] and "blue, green, red" in corner["usage"]
    assert json.loads(corner["normalisation"])["bgr"] is True
    centred = metadata_of(Checkpoint(detector, ImageSize(centred=True)))
    assert "on all sides" in centred["usage"] and "(left, top)" in centred["usage"]


def official_detector(head: str, backbone: str, **changes: Any) -> Detector:
    """Random weights, of a configuration that `load_detector` takes an official file for."""
    config = DetectorConfig(
        head=head,
        backbone=backbone,
        pretrained=False,
        channels=32,
        leaky=backbone == "mobilenet_v2",
        anchor_scale=4.0 if head == "retinanet" else 8.0,
        postprocess=PostProcess(nms_iou=0.5 if head in ("retinanet", "fcos") else 0.6),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Detector(replace(config, **changes), CLASSES).eval()


class TestOfficial:
    @pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
    @pytest.mark.parametrize("head", HEADS)
    def test_round_trip(self, tmp_path: Path, head: str, backbone: str) -> None:
        detector = official_detector(head, backbone)
        export_official(Checkpoint(detector, ImageSize()), tmp_path / "s.pth")
        assert [x.name for x in tmp_path.iterdir()] == ["s.pth"]
        found = load_detector(tmp_path / "s.pth")
        assert found.detector.class_names == CLASSES
        assert found.detector.config == detector.config
        own, theirs = detector.state_dict(), found.detector.state_dict()
        assert list(own) == list(theirs)
        for name, value in own.items():
            assert torch.equal(value, theirs[name]), name

    def test_read_back_it_is_the_same_detector(self, tmp_path: Path) -> None:
        detector = official_detector(
            "gfl",
            "resnet18",
            channels=24,
            head_groups=4,
            strides=(8, 16, 32),
            frozen_stages=0,
            anchor_scale=3.0,
            normalisation=NANODET,
            postprocess=PostProcess(score_threshold=0.004, nms_iou=0.99, max_detections=7),
        )
        export_official(Checkpoint(detector, SIZE), tmp_path / "s.pth")
        found = load_detector(tmp_path / "s.pth")
        assert found.detector.config == detector.config
        assert found.size == SIZE == recorded_size(tmp_path / "s.pth")
        images, sizes = torch.randn(1, 3, 64, 96), torch.tensor([[64, 96]])
        (ours,), (theirs,) = (x.detect(images, sizes) for x in (detector, found.detector))
        assert len(ours.scores) == 7 and torch.equal(ours.boxes, theirs.boxes)

    def test_content(self, tmp_path: Path) -> None:
        detector = official_detector("atss", "mobilenet_v2")
        export_official(Checkpoint(detector, ImageSize()), tmp_path / "s.pth")
        content = torch.load(tmp_path / "s.pth", weights_only=True)
        assert content["meta"]["CLASSES"] == CLASSES
        assert "bbox_head.atss_centerness.weight" in content["state_dict"]
        assert not any(name.startswith("head.") for name in content["state_dict"])
        assert not any(value.requires_grad for value in content["state_dict"].values())

    def test_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        detector = official_detector("gfl", "mobilenet_v2")
        save_detector(tmp_path / "student.safetensors", detector, ImageSize(), {})
        assert run_export(tmp_path, ExportOptions(official=tmp_path / "s.pth")) == {}
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{tmp_path / 's.pth'}: ") and line.endswith("read back exactly")

    def test_what_the_layout_does_not_say_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        detector = official_detector(
            "gfl", "mobilenet_v2", channels=32, strides=(8, 16, 32), leaky=False, frozen_stages=0
        )
        save_detector(tmp_path / "student.safetensors", detector, SIZE, {})
        run_export(tmp_path, ExportOptions(official=tmp_path / "s.pth"))
        (line,) = capsys.readouterr().out.splitlines()
        assert line.endswith("must be told: leaky, image size")
        again = official_detector("gfl", "mobilenet_v2", channels=32, strides=(8, 16, 32))
        load_official(again, read_official(tmp_path / "s.pth").state_dict)
        assert torch.equal(again.head.cls.weight, detector.head.cls.weight)

    def test_other_backbones_have_no_layout(
        self, tmp_path: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        with pytest.raises(InputError, match="fcos on small_resnet has no official key layout"):
            export_official(Checkpoint(tiny_detector(head="fcos"), SIZE), tmp_path / "s.pth")
        with pytest.raises(InputError, match="NanoDet has no official key layout"):
            export_official(Checkpoint(NanoDet(), SIZE), tmp_path / "s.pth")
        assert not list(tmp_path.iterdir())


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "nothing to write: expected --onnx, --program or --official"),
            ({"onnx": "s.pt"}, r"--onnx is .*s\.pt; expected a name that ends in \.onnx"),
            ({"program": "s.onnx"}, r"--program is .* ends in \.pt2"),
            ({"official": "s"}, r"--official is .* ends in \.pth"),
            ({"official": "folder.pth"}, r"folder\.pth is a folder; expected a file"),
            ({"program": "folder.pth/../file/s.pt2"}, r"file/s\.pt2 can't be written: "),
            ({"program": "s.pt2", "preprocess": True}, "--preprocess is for an ONNX file"),
            ({"official": "source.pth"}, r"source\.pth is used for something else"),
        ],
    )
    def test_options(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        (tmp_path / "folder.pth").mkdir()
        (tmp_path / "file").touch()
        given = {
            name: tmp_path / value if isinstance(value, str) else value
            for name, value in options.items()
        }
        with pytest.raises(InputError, match=message):
            run_export(tmp_path / "source.pth", ExportOptions(**given))

    def test_no_detector(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="does not exist"):
            run_export(tmp_path / "run", ExportOptions(onnx=tmp_path / "s.onnx"))

    def test_a_missing_package_is_named(
        self,
        tmp_path: Path,
        tiny_detector: Callable[..., Detector],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        without(monkeypatch, "onnxscript")
        with pytest.raises(InputError, match="needs the package onnxscript"):
            export_onnx(Checkpoint(tiny_detector(), SIZE), tmp_path / "s.onnx")
        assert not list(tmp_path.iterdir())

    def test_swin(self, tmp_path: Path, tiny_detector: Callable[..., Detector]) -> None:
        detector = tiny_detector()
        detector.config = replace(detector.config, backbone="swin_t")
        for export in (export_onnx, export_program):
            with pytest.raises(InputError, match="gfl on swin_t has no graph"):
                export(Checkpoint(detector, SIZE), tmp_path / "s")

    @pytest.mark.parametrize("old", [None, b"a good export"])
    def test_a_file_that_detects_something_else(
        self, untraced: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
    ) -> None:
        """It is not there afterwards; what was there is."""
        if old is not None:
            (untraced / "s.onnx").write_bytes(old)
        wrong = Verification(detections=30, missed=2, boxes=0.0, scores=0.0)
        monkeypatch.setattr(exporting, "onnx_detect", lambda path: None)
        monkeypatch.setattr(exporting, "compare", lambda checkpoint, detect: wrong)
        with pytest.raises(
            InputError, match=r"s\.onnx is not written: it would not detect what PyTorch does: 2"
        ):
            run_export(untraced, ExportOptions(onnx=untraced / "s.onnx"))
        found = {path.name: path.read_bytes() for path in untraced.iterdir()}
        found.pop("student.safetensors")
        assert found == ({} if old is None else {"s.onnx": old})

    def test_what_can_be_written_is(
        self,
        untraced: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """All that is asked for but what can't be, of which each has its sentence."""
        without(monkeypatch, "onnxscript")
        good = Verification(detections=30, missed=0, boxes=0.0, scores=0.0)
        monkeypatch.setattr(exporting, "program_bytes", lambda program, checkpoint: b"program")
        monkeypatch.setattr(exporting, "program_detect", lambda path: None)
        monkeypatch.setattr(exporting, "compare", lambda checkpoint, detect: good)
        files = {"onnx": "s.onnx", "program": "s.pt2", "official": "s.pth"}
        options = ExportOptions(**{name: untraced / file for name, file in files.items()})
        with pytest.raises(NotWrittenError) as refused:
            run_export(untraced, options)
        assert {x.name for x in untraced.iterdir()} == {"student.safetensors", "s.pt2"}
        assert list(refused.value.why) == [options.official, options.onnx]
        assert "gfl on small_resnet has no official key layout" in str(refused.value)
        assert "needs the package onnxscript: pip install 'bckd[export]'" in str(refused.value)
        assert capsys.readouterr().out.startswith(f"{options.program}: the 30 detections")

    def test_without_onnxruntime_the_line_says_so(
        self,
        untraced: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        without(monkeypatch, "onnxruntime")
        assert run_export(untraced, ExportOptions(onnx=untraced / "s.onnx")) == {}
        assert "not compared with PyTorch: onnxruntime is not" in capsys.readouterr().out


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if a package were not installed."""
    monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def untraced(
    tmp_path: Path, tiny_detector: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run, where writing ONNX does nothing."""
    save_detector(tmp_path / "student.safetensors", tiny_detector(), SIZE, {})
    monkeypatch.setattr(exporting, "trace", lambda checkpoint: None)
    monkeypatch.setattr(exporting, "onnx_bytes", lambda program, checkpoint, preprocess: b"new")
    return tmp_path

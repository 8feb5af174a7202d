from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bckd.models import Detector, DetectorConfig
from bckd.normalisation import CAFFE
from bckd.system.errors import InputError
from bckd.zoo.official import config_of_official, load_official, official_name
from bckd.zoo.wrapped import read_official

GOLDEN = Path(__file__).parents[1] / "golden"


def detector(
    backbone: str = "resnet18", num_classes: int = 2, seed: int = 0, head: str = "gfl"
) -> Detector:
    torch.manual_seed(seed)
    config = DetectorConfig(head, backbone, pretrained=False, channels=8, head_groups=4)
    return Detector(config, tuple(f"class {k}" for k in range(num_classes)))


def official_dict(source: Detector) -> dict[str, Tensor]:
    return {
        official_name(name, source.config.head): value.clone()
        for name, value in source.state_dict().items()
    }


class TestNames:
    @pytest.mark.parametrize(
        ("ours", "official"),
        [
            ("backbone.layer1.0.bn1.running_mean", "backbone.layer1.0.bn1.running_mean"),
            ("neck.lateral.2.weight", "neck.lateral_convs.2.conv.weight"),
            ("neck.output.4.bias", "neck.fpn_convs.4.conv.bias"),
            ("head.cls_tower.3.0.weight", "bbox_head.cls_convs.3.conv.weight"),
            ("head.cls_tower.3.1.bias", "bbox_head.cls_convs.3.gn.bias"),
            ("head.box_tower.0.0.weight", "bbox_head.reg_convs.0.conv.weight"),
            ("head.box_tower.0.1.weight", "bbox_head.reg_convs.0.gn.weight"),
            ("head.cls.bias", "bbox_head.gfl_cls.bias"),
            ("head.box.weight", "bbox_head.gfl_reg.weight"),
            ("head.scales.1.scale", "bbox_head.scales.1.scale"),
            ("backbone.features.0.0.weight", "backbone.conv1.conv.weight"),
            ("backbone.features.0.1.bias", "backbone.conv1.bn.bias"),
            (
                "backbone.features.1.conv.0.0.weight",
                "backbone.layer1.0.depthwise_conv.conv.weight",
            ),
            ("backbone.features.1.conv.1.weight", "backbone.layer1.0.linear_conv.conv.weight"),
            ("backbone.features.1.conv.2.bias", "backbone.layer1.0.linear_conv.bn.bias"),
            ("backbone.features.4.conv.0.1.bias", "backbone.layer3.0.expand_conv.bn.bias"),
            (
                "backbone.features.4.conv.1.0.weight",
                "backbone.layer3.0.depthwise_conv.conv.weight",
            ),
            ("backbone.features.17.conv.3.weight", "backbone.layer7.0.linear_conv.bn.weight"),
        ],
    )
    def test_map(self, ours: str, official: str) -> None:
        assert official_name(ours, "gfl") == official

    @pytest.mark.parametrize(
        ("backbone", "file"),
        [("resnet18", "forward_gfl_r18.pt"), ("mobilenet_v2", "forward_bckd_mobilenetv2.pt")],
    )
    def test_the_map_covers_every_entry_of_the_official_detector(
        self, backbone: str, file: str
    ) -> None:
        keys = {name for name, _, _ in torch.load(GOLDEN / file, weights_only=True)["keys"]}
        mapped = [official_name(name, "gfl") for name in detector(backbone).state_dict()]
        assert len(set(mapped)) == len(mapped)
        unused = keys - set(mapped)
        assert set(mapped) <= keys
        assert all(re.match(r"bbox_head\.integral|backbone\.conv2\.", name) for name in unused)


class TestLoad:
    @pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
    def test_every_entry_arrives(self, backbone: str) -> None:
        source, target = detector(backbone), detector(backbone, seed=1)
        report = load_official(target, official_dict(source))
        for name, value in source.state_dict().items():
            assert torch.equal(target.state_dict()[name], value), name
        assert len(report.loaded) == len(source.state_dict())
        assert report.unused == ()
        assert str(report) == f"{len(report.loaded)} entries loaded"

    def test_entries_that_nothing_reads_are_reported(self) -> None:
        source = detector("mobilenet_v2")
        constants = {
            "bbox_head.integral.project": torch.arange(17.0),
            "backbone.conv2.conv.weight": torch.zeros(1280, 320, 1, 1),
            "backbone.conv2.bn.bias": torch.zeros(1280),
        }
        report = load_official(detector("mobilenet_v2", seed=1), official_dict(source) | constants)
        assert report.unused == tuple(constants)
        assert "unused: bbox_head.integral.project, backbone.conv2.conv.weight" in str(report)

    def test_every_misfit_is_named_and_nothing_is_changed(self) -> None:
        target = detector(seed=1)
        before = {name: value.clone() for name, value in target.state_dict().items()}
        wrong = official_dict(detector())
        del wrong["neck.fpn_convs.0.conv.bias"], wrong["backbone.conv1.weight"]
        wrong["bbox_head.extra.weight"] = wrong["roi_head.bias"] = torch.zeros(1)
        wrong["bbox_head.gfl_cls.weight"] = torch.zeros(80, 8, 3, 3)
        wrong["bbox_head.gfl_cls.bias"] = torch.zeros(80)
        with pytest.raises(InputError) as caught:
            load_official(target, wrong)
        message = str(caught.value)
        missing, unexpected, shapes = message.split("; ")
        assert missing.startswith("official weights do not fit gfl on resnet18: missing (2): ")
        assert "neck.fpn_convs.0.conv.bias" in missing and "backbone.conv1.weight" in missing
        assert unexpected == "unexpected (2): bbox_head.extra.weight, roi_head.bias"
        assert "bbox_head.gfl_cls.weight is (80, 8, 3, 3), expected (2, 8, 3, 3)" in shapes
        assert "bbox_head.gfl_cls.bias is (80,), expected (2,)" in shapes
        for name, value in target.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_another_backbone_does_not_fit(self) -> None:
        with pytest.raises(
            InputError, match=r"do not fit gfl on mobilenet_v2: missing \(\d+\): backbone\.conv1"
        ):
            load_official(detector("mobilenet_v2"), official_dict(detector()))


class TestConfig:
    @pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
    def test_resnets_are_told_by_their_blocks(self, backbone: str) -> None:
        config, num_classes = config_of_official(official_dict(detector(backbone, num_classes=5)))
        assert (config.backbone, num_classes) == (backbone, 5)
        assert not config.pretrained and not config.leaky
        assert config.reg_max == 16

    def test_mobilenet_is_the_leaky_student(self) -> None:
        config, num_classes = config_of_official(official_dict(detector("mobilenet_v2")))
        assert (config.backbone, config.leaky, num_classes) == ("mobilenet_v2", True, 2)

    def test_reg_max_follows_the_channels(self) -> None:
        state_dict = official_dict(detector()) | {
            "bbox_head.gfl_reg.weight": torch.zeros(32, 8, 3, 3)
        }
        assert config_of_official(state_dict)[0].reg_max == 7

    def test_other_detectors_are_refused(self) -> None:
        with pytest.raises(InputError, match="not a checkpoint of GFL, RetinaNet, FCOS or ATSS"):
            config_of_official({"bbox_head.rpn_cls.weight": torch.zeros(9, 8, 3, 3)})

    @pytest.mark.parametrize("head", ["gfl", "retinanet", "fcos", "atss"])
    @pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
    def test_every_head_is_known_by_its_entries(self, head: str, backbone: str) -> None:
        source = detector(backbone, num_classes=3, head=head)
        config, classes = config_of_official(official_dict(source))
        assert (config.head, config.backbone, classes) == (head, backbone, 3)
        assert config.anchor_scale == (4.0 if head == "retinanet" else 8.0)
        assert config.postprocess.nms_iou == (0.5 if head in ("retinanet", "fcos") else 0.6)
        assert config.caffe == (head == "fcos" and backbone == "resnet50")
        assert (config.normalisation == CAFFE) == config.caffe

    def test_sizes_are_read_from_the_entries(self) -> None:
        sizes = {"channels": 96, "head_convs": 2, "strides": (8, 16, 32), "head_groups": 32}
        config = DetectorConfig("gfl", "resnet18", pretrained=False, **sizes)
        found, _ = config_of_official(official_dict(Detector(config, ("a", "b"))))
        assert {name: getattr(found, name) for name in sizes} == sizes

    def test_other_backbones_are_refused(self) -> None:
        state_dict = official_dict(detector())
        state_dict["backbone.layer3.2.conv1.weight"] = torch.zeros(1)
        with pytest.raises(InputError, match="unknown backbone: 3 blocks in layer3"):
            config_of_official(state_dict)


class TestRead:
    def test_with_and_without_a_wrapper(self, tmp_path: Path) -> None:
        weights = {"a": torch.ones(2), "b": torch.zeros(1)}
        torch.save(weights, tmp_path / "bare.pth")
        torch.save({"state_dict": weights, "meta": {"epoch": 12}}, tmp_path / "wrapped.pth")
        for name in ("bare.pth", "wrapped.pth"):
            found = read_official(tmp_path / name).state_dict
            assert found.keys() == weights.keys() and torch.equal(found["a"], weights["a"])

    def test_class_names_and_the_first_names_of_fcos(self, tmp_path: Path) -> None:
        weights = {"bbox_head.fcos_cls.bias": torch.ones(2), "neck.fcos_x": torch.ones(1)}
        torch.save({"state_dict": weights, "meta": {"CLASSES": ("a", "b")}}, tmp_path / "old.pth")
        found = read_official(tmp_path / "old.pth")
        assert list(found.state_dict) == ["bbox_head.conv_cls.bias", "neck.fcos_x"]
        assert found.class_names == ("a", "b")

    def test_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no\.pth does not exist"):
            read_official(tmp_path / "no.pth")

    @pytest.mark.parametrize(
        "content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short", b"\x80\x02}q\x00(X"]
    )
    def test_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.pth is not a file of tensors") as caught:
            read_official(tmp_path / "bad.pth")
        assert "\n" not in str(caught.value)

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"a": Path("harmless")}}, tmp_path / "object.pth")
        with pytest.raises(InputError, match=r"object\.pth is not a file of tensors"):
            read_official(tmp_path / "object.pth")

    @pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"epoch": 3}, [torch.ones(1)]])
    def test_no_state_dict(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(InputError, match=r"odd\.pth holds no state dict"):
            read_official(tmp_path / "odd.pth")

"""torchvision's FCOS and RetinaNets as students: by name, or of one's own making."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from bckd.commands.main import run as run_command
from bckd.datasets.scene_drawing import class_names
from bckd.geometry import boxes_to_deltas, boxes_to_distances
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.normalisation import Normalisation
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.weights import torchvision_models
from bckd.zoo.checkpoints import load_detector, load_module, save_detector
from bckd.zoo.torchvision_detectors import (
    TorchvisionConfig,
    TorchvisionDetector,
    TorchvisionModel,
    dense_from_torchvision,
)
from bckd.zoo.unfinished import STATE, STUDENT

NAMES = class_names("standard")
STRIDES = (8, 16, 32)
KINDS = ["fcos", "retinanet", "retinanet_giou"]


class Pyramid(nn.Module):
    """A backbone of three maps, as torchvision's detectors take it."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 8, stride=8)
        self.deeper = nn.ModuleList(nn.Conv2d(32, 32, 3, 2, padding=1) for _ in range(2))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = [self.stem(images).relu()]
        for conv in self.deeper:
            maps.append(conv(maps[-1]).relu())
        return OrderedDict((str(n), x) for n, x in enumerate(maps))


def own_model(kind: str, classes: int = 6) -> FCOS | RetinaNet:
    """A small model of torchvision's, with a backbone and anchors of our own."""
    torch.manual_seed(0)
    settings = {"min_size": 64, "max_size": 64, "score_thresh": 0.0}
    if kind == "fcos":
        anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * 3)
        return FCOS(Pyramid(), classes, anchor_generator=anchors, **settings)
    sizes = tuple((3 * stride, 4 * stride) for stride in STRIDES)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    model = RetinaNet(Pyramid(), classes, anchor_generator=anchors, **settings)
    if kind == "retinanet_giou":  # as torchvision's second RetinaNet
        model.head.regression_head._loss_type = "giou"
    return model


def own_student(kind: str) -> TorchvisionModel:
    return TorchvisionModel(own_model(kind), NAMES, STRIDES)


def lines_of(recipe: Recipe) -> list[dict[str, dict[str, float]]]:
    return [line for line in read_log(recipe.out) if "unweighted" in line]


@pytest.fixture
def teacher(tmp_path: Path, tiny_detector: Callable[..., Detector]) -> Path:
    """A GFL detector with one anchor a cell."""
    path = tmp_path / "teacher.safetensors"
    save_detector(path, tiny_detector(channels=16), ImageSize(64, 64), {})
    return path


class TestOwnModel:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_learns_distilled_and_every_parameter_takes_part(
        self, kind: str, tiny_recipe: Recipe, teacher: Path
    ) -> None:
        recipe = replace(tiny_recipe, teacher=teacher, steps=20, checkpoint_every=20)
        recipe = replace(recipe, optimisation=replace(recipe.optimisation, learning_rate=1e-2))
        student = own_student(kind)
        before = {name: x.detach().clone() for name, x in student.named_parameters()}
        train(recipe, student=student, progress=False)
        assert all(not torch.equal(before[name], x) for name, x in student.named_parameters())
        lines = lines_of(recipe)
        terms = {"focal", "log_iou", "centerness"} if kind == "fcos" else {"focal", "l1"}
        assert set(lines[0]["unweighted"]) == terms | {"binary", "iou"}
        first, last = (sum(line["loss"] for line in part) for part in (lines[:4], lines[-4:]))
        assert last < 0.9 * first

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_it_finds_what_torchvision_finds(self, kind: str) -> None:
        student = own_student(kind).eval()
        head = student.model.head.classification_head.cls_logits
        head.weight *= 100.0
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        expected = student.model(list(images))
        normalised = torch.stack([student.normalisation.apply(image) for image in images])
        found = student.detect(normalised, torch.tensor([[64, 64], [64, 64]]))
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours.scores) > 50
            assert ours.labels.tolist() == theirs["labels"].tolist()
            torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-6)
            torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-4)

    @pytest.mark.parametrize("kind", ["retinanet", "fcos"])
    def test_its_boxes_are_coded_as_our_losses_take_them(self, kind: str) -> None:
        student = own_student(kind)
        output = student(torch.rand(2, 3, 64, 64))
        if kind == "fcos":
            distances = boxes_to_distances(output.locations.centres, output.boxes)
            raw = student.model.head(list(output.features))["bbox_regression"]
            torch.testing.assert_close(distances, raw * output.locations.strides[:, None])
            return
        deltas = boxes_to_deltas(output.locations.anchors, output.boxes)
        torch.testing.assert_close(output.deltas, deltas, rtol=1e-4, atol=1e-5)
        targets = torch.tensor([[10.0, 10.0, 40.0, 30.0]])
        theirs = student.model.box_coder.encode_single(targets, output.locations.anchors[:1])
        ours = boxes_to_deltas(output.locations.anchors[:1], targets)
        torch.testing.assert_close(ours, theirs)

    def test_a_background_of_torchvisions_losses_is_left_out(self) -> None:
        model = own_model("retinanet", classes=7)
        images = torch.rand(1, 3, 64, 64)
        whole = dense_from_torchvision(model, images, STRIDES)
        objects = dense_from_torchvision(model, images, STRIDES, range(1, 7))
        assert torch.equal(objects.cls_logits, whole.cls_logits[..., 1:])
        student = TorchvisionModel(model, NAMES, STRIDES, range(1, 7))
        assert torch.equal(student(images).cls_logits, objects.cls_logits)
        with pytest.raises(InputError, match="model has 7 class outputs; expected 6, one a"):
            TorchvisionModel(model, NAMES, STRIDES)

    def test_what_is_saved_goes_back(self, tiny_recipe: Recipe) -> None:
        recipe = replace(tiny_recipe, steps=1)
        student = own_student("retinanet")
        train(recipe, student=student, progress=False)
        again = own_student("retinanet")
        loaded = load_module(recipe.out, again)
        assert loaded.detector is again
        images = torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(again(images).boxes, student.eval()(images).boxes)

    def test_images_are_normalised_as_it_asks(self, tiny_recipe: Recipe) -> None:
        model = own_model("fcos")
        model.transform.image_mean, model.transform.image_std = [0.5] * 3, [0.25] * 3
        student = TorchvisionModel(model, NAMES, STRIDES)
        seen: list[Tensor] = []
        student.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        train(replace(tiny_recipe, steps=1), student=student, progress=False)
        values = torch.cat([x.flatten() for x in seen[1:]])
        levels = values * 0.25 * 255 + 0.5 * 255
        assert student.normalisation == Normalisation((0.5,) * 3, (0.25,) * 3)
        assert -2 <= values.min() and values.max() <= 2
        assert levels.min() >= -1e-3 and levels.max() <= 255 + 1e-3

    def test_another_model_or_number_of_levels(self) -> None:
        images = torch.zeros(1, 3, 64, 64)
        with pytest.raises(InputError, match="model is Linear; expected torchvision's FCOS or Ret"):
            dense_from_torchvision(nn.Linear(1, 1), images)
        with pytest.raises(InputError, match="model has maps of 3 levels; expected 5"):
            dense_from_torchvision(own_model("fcos"), images)

    def test_other_strides(self, tiny_recipe: Recipe) -> None:
        student = TorchvisionModel(own_model("fcos"), NAMES, (4, 8, 16))
        said = "8 x 8 cells on its level of stride 4, of images of 64 x 64 pixels; expected 16 x 16"
        with pytest.raises(InputError, match=said):
            train(tiny_recipe, student=student, progress=False)

    def test_canvases_of_several_sizes_are_refused(self, tiny_recipe: Recipe) -> None:
        recipe = replace(tiny_recipe, images_per_group=2)
        with pytest.raises(InputError, match="images_per_group is 2; expected None for torchvis"):
            train(recipe, student=own_student("fcos"), progress=False)


class TestByName:
    def test_a_run_from_the_shell_is_read_without_the_module(
        self, tiny_recipe: Recipe, tmp_path: Path
    ) -> None:
        out = tmp_path / "shell"
        command = f"""
            train scenes --student retinanet_resnet50_fpn --model.no-pretrained --out {out}
            --data.root {tiny_recipe.data.root} --data.size.short-side 32 --data.size.long-side 32
            --data.first-train 2 --data.first-val 2 --batch-size 2 --steps 1 --device cpu
        """.split()
        assert run_command(command) == 0
        assert set(lines_of(replace(tiny_recipe, out=out))[0]["unweighted"]) == {"focal", "l1"}
        detector = load_detector(out).detector
        assert isinstance(detector, TorchvisionDetector) and not detector.training
        assert detector.config == TorchvisionConfig("retinanet_resnet50_fpn", None, NAMES)
        assert detector.class_names == NAMES
        unfinished = load_detector(out / STATE).detector  # as of a run that has not ended
        for name, value in unfinished.state_dict().items():
            assert torch.equal(value, detector.state_dict()[name]), name
        assert load_detector(out / STUDENT).size == ImageSize(32, 32)
        assert run_command(["eval", str(out), "--device", "cpu"]) == 0

    def test_of_its_weights_all_but_the_classes_are_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(3)
        published = get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None).state_dict()
        monkeypatch.setattr(torchvision_models, "torchvision_weights", lambda *_: published)
        model = TorchvisionDetector("fcos_resnet50_fpn", "COCO_V1", ("a", "b")).model
        own = model.state_dict()
        classes = {name for name in own if "cls_logits" in name}
        assert {own[name].shape[0] for name in classes} == {2}
        assert all(torch.equal(own[name], published[name]) for name in own.keys() - classes)
        assert not model.backbone.body.conv1.weight.requires_grad

    @pytest.mark.parametrize("name", ["fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
    def test_of_a_backbones_weights(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(3)
        published = get_model("resnet50", weights=None).state_dict()
        monkeypatch.setattr(torchvision_models, "torchvision_weights", lambda *_: published)
        model = TorchvisionDetector(name, "IMAGENET1K_V1", ("a", "b")).model
        own = model.backbone.body.state_dict()
        assert all(torch.equal(own[key], published[key]) for key in own)
        norms = [x for x in model.backbone.body.modules() if isinstance(x, nn.BatchNorm2d)]
        assert bool(norms) == name.endswith("v2")  # the others' are fixed
        learning = {n: p.requires_grad for n, p in model.backbone.body.named_parameters()}
        assert not learning["layer1.0.conv1.weight"] and learning["layer2.0.conv1.weight"]

    def test_beside_a_module_or_a_start(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        recipe = replace(tiny_recipe, student="fcos_resnet50_fpn")
        with pytest.raises(InputError, match="student is fcos_.*; expected none beside a module"):
            train(recipe, student=own_student("fcos"), progress=False)
        with pytest.raises(InputError, match="start is .*; expected none, as the student is no"):
            train(replace(recipe, start=tmp_path), progress=False)

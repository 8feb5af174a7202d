from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from bckd.commands.parsing import parse
from bckd.commands.train import TrainOptions
from bckd.models.backbones import BACKBONES
from bckd.models.detector import Detector, DetectorConfig, HeadName
from bckd.models.postprocess import PostProcess
from bckd.models.supervision import assign, supervised_losses
from bckd.recipes.presets import PRESETS
from bckd.structures import DenseOutput, GroundTruth
from bckd.system.errors import InputError

HEADS: tuple[HeadName, ...] = get_args(HeadName)
NAMES = ("nut", "screw", "washer")
SIZE = (64, 96)
SHAPES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]  # of the five levels
PER_CELL = {"retinanet": 9}  # locations a cell; 1 elsewhere


def detector(head: HeadName, backbone: str = "small_resnet", **changes: object) -> Detector:
    """Small and of random weights."""
    torch.manual_seed(0)
    small = {"pretrained": False, "frozen_stages": 0, "norm_eval": False, "width": 4}
    small |= {"channels": 8, "head_convs": 1, "head_groups": 2, "reg_max": 4}
    return Detector(DetectorConfig(head=head, backbone=backbone, **(small | changes)), NAMES)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def truth() -> GroundTruth:
    """Two boxes in the first of two images, none in the second."""
    boxes = torch.tensor([[10.0, 12, 44, 46], [50, 4, 90, 60]])
    empty = torch.zeros(0, dtype=torch.int64)
    return GroundTruth.from_lists([boxes, torch.zeros(0, 4)], [torch.tensor([0, 2]), empty])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_on_every_backbone(head: HeadName, backbone: str) -> None:
    student = detector(head, backbone).train()
    output = student(images())
    padded = torch.tensor([SIZE, SIZE])
    assignment = assign(head, output, truth(), padded)
    losses = supervised_losses(head, output, assignment)
    assert assignment.positive[0].any() and all(x.isfinite() for x in losses.values())
    sum(losses.values()).backward()
    for name, p in student.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert student.backbone.channels == tuple(conv.in_channels for conv in student.neck.lateral)


@pytest.mark.parametrize("head", HEADS)
class TestDenseOutput:
    def check(self, output: DenseOutput, head: HeadName) -> None:
        levels = output.locations.levels
        assert [(level.height, level.width) for level in levels] == SHAPES
        assert [level.stride for level in levels] == [8, 16, 32, 64, 128]
        assert {level.per_cell for level in levels} == {PER_CELL.get(head, 1)}
        count = sum(output.locations.counts)
        assert output.cls_logits.shape == (2, count, len(NAMES))
        assert output.boxes.shape == (2, count, 4)
        assert [tuple(x.shape) for x in output.features] == [(2, 8, *shape) for shape in SHAPES]
        optional = {
            "box_logits": {"gfl"},
            "deltas": {"retinanet"},
            "quality": {"fcos", "atss"},
        }
        for name in ("cls_logits", "boxes", *optional):
            value = getattr(output, name)
            assert (value is not None) == (head in optional.get(name, HEADS)), name
            assert value is None or (value.dtype == torch.float32 and value.isfinite().all()), name
        assert (output.locations.anchors is None) == (head == "fcos")

    def test_is_the_same_kind_for_training_and_evaluation(self, head: HeadName) -> None:
        model = detector(head, norm_eval=True)
        training, evaluation = model.train()(images()), model.eval()(images())
        self.check(training, head)
        self.check(evaluation, head)
        assert torch.equal(training.cls_logits, evaluation.cls_logits)
        assert torch.equal(training.boxes, evaluation.boxes)

    def test_is_float32_under_autocast(self, head: HeadName) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            self.check(detector(head)(images()), head)

    def test_a_batch_is_its_images(self, head: HeadName) -> None:
        model, batch = detector(head).eval(), images()
        together = model(batch)
        for n in range(2):
            alone = model(batch[n : n + 1])
            torch.testing.assert_close(together.cls_logits[n], alone.cls_logits[0])
            torch.testing.assert_close(together.boxes[n], alone.boxes[0], atol=1e-3, rtol=1e-4)

    def test_detections_lie_in_their_image(self, head: HeadName) -> None:
        model = detector(head).eval()
        with torch.no_grad():
            model.head.cls.bias += 5.0  # or no score reaches the threshold
            found = model.detect(images(), torch.tensor([[60, 96], [64, 50]]))
        for detections, (height, width) in zip(found, ((60, 96), (64, 50)), strict=True):
            assert 0 < len(detections.scores) <= model.settings.max_detections
            limit = torch.tensor([width, height, width, height])
            assert (detections.boxes >= 0).all() and (detections.boxes <= limit).all()


def test_the_pyramid_of_each_family_is_its_recipes() -> None:
    found = {head: detector(head).neck.extra for head in HEADS}
    assert found == {
        "gfl": "output",
        "retinanet": "input",
        "fcos": "output, relu",
        "atss": "output",
    }


class TestOwnValues:
    """A family has its anchors and its NMS threshold wherever nothing else is said."""

    OWN = {"gfl": (8.0, 0.6), "retinanet": (4.0, 0.5), "fcos": (8.0, 0.5), "atss": (8.0, 0.6)}

    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("head", HEADS)
    def test_of_another_head_on_any_preset(self, head: HeadName, preset: str) -> None:
        """The scenes' presets name the anchors themselves, for their small objects."""
        options = TrainOptions(PRESETS[preset][1])
        arguments = ["--model.head", head]
        parsed = parse(TrainOptions, arguments, f"train {preset}", default=options)
        small = {"backbone": "small_resnet", "pretrained": False, "leaky": False}
        config = replace(parsed.recipe.model, **small, frozen_stages=0, channels=32, head_groups=4)
        found = Detector(config, NAMES)
        scale, nms_iou = self.OWN[head]
        scale = 3.0 if preset.startswith("scenes") else scale
        assert (found.config.anchor_scale, found.settings.nms_iou) == (scale, nms_iou)
        anchors = found(images(1)).locations.anchors
        if head == "fcos":
            assert anchors is None
        else:
            assert (anchors[0, 2] - anchors[0, 0]) * (anchors[0, 3] - anchors[0, 1]) == (
                pytest.approx((8 * scale) ** 2)
            )

    def test_what_is_said_counts(self) -> None:
        settings = PostProcess(nms_iou=0.7, score_threshold=0.2)
        found = detector("retinanet", anchor_scale=3.0, postprocess=settings)
        assert (found.config.anchor_scale, found.settings) == (3.0, settings)


def test_only_retinanets_towers_have_no_norm() -> None:
    for head in HEADS:
        norms = [m for m in detector(head).head.modules() if isinstance(m, nn.GroupNorm)]
        assert bool(norms) == (head != "retinanet")


@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64)])
@pytest.mark.parametrize("head", HEADS)
def test_as_many_levels_as_strides(head: HeadName, strides: tuple[int, ...]) -> None:
    output = detector(head, strides=strides)(images())
    assert [level.stride for level in output.locations.levels] == list(strides)
    assert len(output.features) == len(strides)


def test_weights_are_asked_for_only_if_pretrained() -> None:
    settings = {"backbone": "resnet18", "weights": "IMAGENET9K"}
    assert detector("gfl", **settings).config.weights == "IMAGENET9K"
    with pytest.raises(InputError, match="no weights 'IMAGENET9K' of resnet18"):
        detector("gfl", pretrained=True, **settings)


def test_norms_may_be_fixed_altogether() -> None:
    """FCOS's recipe: statistics, weights and biases of the backbone's BatchNorm."""
    found = detector("fcos", norm_eval=True, norm_learns=False).train()
    norms = [m for m in found.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(p.requires_grad for m in norms for p in m.parameters())
    assert all(p.requires_grad for m in (found.neck, found.head) for p in m.parameters())
    plain = detector("fcos", norm_eval=True)
    assert all(p.requires_grad for p in plain.parameters())


def test_the_backbones_settings_arrive() -> None:
    frozen = detector("gfl", "resnet50", frozen_stages=1, norm_eval=True, caffe=True).train()
    assert not frozen.backbone.conv1.weight.requires_grad
    assert frozen.backbone.layer2[0].conv1.stride == (2, 2)
    assert not frozen.backbone.layer2[0].bn1.training
    leaky = detector("fcos", "mobilenet_v2", leaky=True)
    assert any(isinstance(m, nn.LeakyReLU) for m in leaky.backbone.modules())

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from bckd.geometry import boxes_to_distances, deltas_to_boxes
from bckd.image_size import ImageSize
from bckd.models.postprocess import PostProcess
from bckd.normalisation import IMAGENET
from bckd.structures import DenseOutput
from bckd.system import downloads
from bckd.system.errors import InputError
from bckd.weights import torchvision_models
from bckd.zoo.torchvision_detectors import SIZE, TorchvisionDetector, TorchvisionName

NAMES = get_args(TorchvisionName)
FCOS, RETINANET, RETINANET_V2 = NAMES
CATEGORIES = get_model_weights(FCOS).COCO_V1.meta["categories"]
UNUSED = [k for k, name in enumerate(CATEGORIES) if name in ("__background__", "N/A")]
SHAPES = ((12, 20), (6, 10), (3, 5), (2, 3), (1, 2))  # of the levels at 96 x 160 pixels
SIZES = ((70, 150), (90, 70))  # short sides are equal: told 70, torchvision resizes neither
SETTINGS = {
    FCOS: PostProcess(0.2, 1000, 0.6, 100, quality="geometric_mean"),
    RETINANET: PostProcess(0.05, 1000, 0.5, 300, quality="geometric_mean"),
    RETINANET_V2: PostProcess(0.05, 1000, 0.5, 300, quality="geometric_mean"),
}


@cache
def loaded(name: str) -> TorchvisionDetector:
    """The detector as its COCO weights make it, but with random ones; not to be changed."""
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        weights = get_model(name, weights=None, weights_backbone=None).state_dict()
        patch.setattr(torchvision_models, "torchvision_weights", lambda *_: weights)
        return TorchvisionDetector(name, "COCO_V1").eval()


def pixels() -> list[Tensor]:
    """Two images in 0..1: noise whose brightness changes over the image."""
    generator = torch.Generator().manual_seed(1)
    images = []
    for height, width in SIZES:
        brightness = torch.rand(1, 3, 3, 3, generator=generator)
        brightness = nn.functional.interpolate(brightness, (height, width))[0]
        images.append(brightness * torch.rand(3, height, width, generator=generator))
    return images


def batch() -> tuple[Tensor, Tensor]:
    """The same images normalised and padded to 96 x 160 pixels, and their sizes."""
    images = torch.zeros(len(SIZES), 3, 96, 160)
    for padded, image, (height, width) in zip(images, pixels(), SIZES, strict=True):
        padded[:, :height, :width] = IMAGENET.apply(image)
    return images, torch.tensor(SIZES)


@cache
def output_of(name: str) -> DenseOutput:
    return dense(loaded(name))


@torch.no_grad()
def dense(detector: TorchvisionDetector) -> DenseOutput:
    return detector(batch()[0])


@torch.no_grad()
def varied(name: str, level: float, spread: float) -> TorchvisionDetector:
    """A detector whose class logits have about that mean and deviation, other outputs 1.

    Its logits of the background and of the numbers without a class are very low.
    """
    detector = deepcopy(loaded(name))
    raw = detector.model.head(list(output_of(name).features))
    cls = detector.model.head.classification_head.cls_logits
    box = detector.model.head.regression_head
    cls.weight *= spread / raw["cls_logits"].std()
    cls.bias.fill_(level)
    cls.weight.unflatten(0, (-1, len(CATEGORIES)))[:, UNUSED] = 0.0
    cls.bias.unflatten(0, (-1, len(CATEGORIES)))[:, UNUSED] = -30.0
    box.bbox_reg.weight /= raw["bbox_regression"].std()
    if name == FCOS:
        box.bbox_reg.bias.fill_(2.0)  # strides from the point to a side
        box.bbox_ctrness.weight /= raw["bbox_ctrness"].std()
    return detector


class TestDetections:
    @torch.no_grad()
    def compare(self, detector: TorchvisionDetector) -> tuple[list[int], list[int]]:
        """Equal to torchvision's; numbers of candidates a level and of detections an image."""
        transform = detector.model.transform
        transform.min_size, transform.max_size = (min(SIZES[0]),), 1333
        expected = detector.model(pixels())
        outputs: list[DenseOutput] = []
        detector.register_forward_hook(lambda *call: outputs.append(call[-1]))
        found = detector.detect(*batch())
        for theirs, ours in zip(expected, found, strict=True):
            names = [CATEGORIES[label] for label in theirs["labels"]]
            assert not {"__background__", "N/A"} & set(names)
            assert [detector.class_names[label] for label in ours.labels] == names
            torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-6)
            torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-4)
        return candidates(outputs[0], detector.settings), [len(ours.scores) for ours in found]

    @pytest.mark.parametrize(
        ("name", "level", "spread"),
        [(FCOS, -4.7, 1.0), (RETINANET, -4.6, 0.5), (RETINANET_V2, -4.5, 0.5)],
    )
    def test_of_some_hundred_candidates(self, name: str, level: float, spread: float) -> None:
        counts, detections = self.compare(varied(name, level, spread))
        assert 200 < sum(counts) < 1000
        assert sum(count > 0 for count in counts) > 1
        assert min(detections) > 50

    @pytest.mark.parametrize("name", NAMES)
    def test_of_very_different_logits(self, name: str) -> None:
        counts, detections = self.compare(varied(name, level=-2.0, spread=3.0))
        # More than the best 1000 on several levels, and more than an image's share of detections.
        assert sum(count > 1000 for count in counts) > 1
        assert detections == [SETTINGS[name].max_detections] * 2


def candidates(output: DenseOutput, settings: PostProcess) -> list[int]:
    """Pairs of location and class above the threshold, a level, of the first image."""
    scores = output.cls_logits[0].sigmoid()
    if output.quality is not None:
        scores = (scores * output.quality[0].sigmoid()[:, None]).sqrt()
    levels = (scores > settings.score_threshold).split(output.locations.counts)
    return [int(level.sum()) for level in levels]


class TestOutput:
    @pytest.mark.parametrize("name", NAMES)
    def test_shapes(self, name: str) -> None:
        output = output_of(name)
        per_cell = 1 if name == FCOS else 9
        count = per_cell * sum(height * width for height, width in SHAPES)
        assert [(x.stride, (x.height, x.width), x.per_cell) for x in output.locations.levels] == [
            (stride, shape, per_cell)
            for stride, shape in zip((8, 16, 32, 64, 128), SHAPES, strict=True)
        ]
        assert output.cls_logits.shape == (2, count, 80)
        assert output.boxes.shape == (2, count, 4)
        assert output.locations.centres.shape == (count, 2)
        assert [tuple(x.shape) for x in output.features] == [(2, 256, *shape) for shape in SHAPES]
        strides = output.locations.strides.split(output.locations.counts)
        assert [x.unique().tolist() for x in strides] == [[8], [16], [32], [64], [128]]
        assert output.box_logits is None

    @pytest.mark.parametrize("name", NAMES)
    def test_neighbours_are_apart_as_torchvision_has_them(self, name: str) -> None:
        locations = output_of(name).locations
        levels = locations.centres.split(locations.counts)
        columns, rows = ([x[:, i].unique().diff().tolist() for x in levels] for i in (0, 1))
        # 160 pixels over 20, 10, 5, 3, 2 cells and 96 over 12, 6, 3, 2, 1, rounded down.
        assert columns == [[8] * 19, [16] * 9, [32] * 4, [53] * 2, [80]]
        assert rows == [[8] * 11, [16] * 5, [32] * 2, [48], []]
        assert locations.centres.min() == 0

    def test_fcos_points_distances_and_centerness(self) -> None:
        detector = loaded(FCOS)
        output = output_of(FCOS)
        raw = detector.model.head(list(output.features))
        distances = raw["bbox_regression"] * output.locations.strides[:, None]
        found = boxes_to_distances(output.locations.centres, output.boxes)
        torch.testing.assert_close(found, distances, rtol=0, atol=1e-4)
        assert output.quality.equal(raw["bbox_ctrness"][..., 0])
        assert output.locations.anchors is None and output.deltas is None

    @pytest.mark.parametrize("name", [RETINANET, RETINANET_V2])
    def test_retinanet_anchors_and_deltas(self, name: str) -> None:
        output = dense(varied(name, level=0.0, spread=1.0))
        anchors = output.locations.anchors
        assert anchors.shape == (len(output.locations.centres), 4)
        assert torch.equal((anchors[:, :2] + anchors[:, 2:]) / 2, output.locations.centres)
        # A cell's first, fourth and last: of ratio .5, 1, 2 and side 32 (and 50) at stride 8.
        sides = (anchors[:, 2:] - anchors[:, :2])[[0, 3, 8]]
        assert sides.tolist() == [[46, 22], [32, 32], [36, 70]]
        boxes = deltas_to_boxes(anchors, output.deltas)
        torch.testing.assert_close(output.boxes, boxes, rtol=1e-5, atol=1e-3)
        assert output.deltas.std() > 0.5
        assert output.boxes.min() < 0 and output.boxes.max() > 160  # not clipped
        assert output.quality is None

    @pytest.mark.parametrize("name", NAMES)
    def test_columns_are_those_of_their_class(self, name: str) -> None:
        detector = loaded(name)
        output = output_of(name)
        raw = detector.model.head(list(output.features))["cls_logits"]
        assert raw.shape[-1] == len(CATEGORIES) == 91
        for k, class_name in enumerate(detector.class_names):
            assert output.cls_logits[..., k].equal(raw[..., CATEGORIES.index(class_name)])

    @pytest.mark.parametrize("name", NAMES)
    def test_boxes_and_centerness_are_not_rounded_under_autocast(self, name: str) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            output = dense(loaded(name))
        for said in ("boxes", "deltas", "quality"):
            value = getattr(output, said)
            assert value is None or not torch.equal(value, value.bfloat16().float()), said

    def test_float32_under_autocast(self) -> None:
        detector = loaded(RETINANET)
        exact = output_of(RETINANET)
        with torch.autocast("cpu", torch.bfloat16):
            output = dense(detector)
        for name in ("cls_logits", "boxes", "deltas"):
            assert getattr(output, name).dtype == torch.float32
        assert output.features[0].dtype == torch.bfloat16
        for name in ("centres", "strides", "anchors"):
            assert torch.equal(getattr(output.locations, name), getattr(exact.locations, name))
        torch.testing.assert_close(
            output.boxes, deltas_to_boxes(output.locations.anchors, output.deltas)
        )


class TestTraining:
    @pytest.mark.parametrize("name", NAMES)
    def test_gradients_reach_what_is_not_frozen(self, name: str) -> None:
        detector = deepcopy(loaded(name)).train()
        output = detector(batch()[0])
        parts = [output.cls_logits, output.boxes]
        parts += [x for x in (output.quality, output.deltas) if x is not None]
        sum(x.square().mean() for x in parts).backward()
        frozen = ("conv1.", "bn1.", "layer1.")
        for key, parameter in detector.model.named_parameters():
            key = key.removeprefix("backbone.body.")
            assert parameter.requires_grad != key.startswith(frozen), key
            assert (parameter.grad is not None) == parameter.requires_grad, key
            assert parameter.grad is None or parameter.grad.isfinite().all(), key

    @pytest.mark.parametrize("name", [FCOS, RETINANET])
    def test_frozen_batch_norm_stays(self, name: str) -> None:
        evaluated, detector = output_of(name), deepcopy(loaded(name)).train()
        assert any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
        trained = dense(detector)
        for field in ("cls_logits", "boxes", "quality", "deltas"):
            ours, theirs = getattr(trained, field), getattr(evaluated, field)
            assert (ours is theirs is None) or torch.equal(ours, theirs), field
        own, before = detector.state_dict(), loaded(name).state_dict()
        assert all(torch.equal(own[key], before[key]) for key in before)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_frozen_detector_gives_no_gradient(self, name: str) -> None:
        output = deepcopy(loaded(name)).requires_grad_(False).train()(batch()[0])
        tensors = [getattr(output, field.name) for field in fields(output)]
        tensors = [x for x in (*tensors, *output.features) if isinstance(x, Tensor)]
        assert len(tensors) == 3 + len(SHAPES)
        assert not any(x.requires_grad for x in tensors)


class TestConstruction:
    @pytest.mark.parametrize("name", NAMES)
    def test_classes_settings_and_preprocessing(self, name: str) -> None:
        detector = loaded(name)
        assert len(detector.class_names) == len(set(detector.class_names)) == 80
        assert detector.class_names[:3] == ("person", "bicycle", "car")
        assert detector.class_names[-1] == "toothbrush"
        assert detector.settings == SETTINGS[name]
        assert detector.normalisation == IMAGENET
        assert detector.strides == (8, 16, 32, 64, 128)
        transform = detector.model.transform
        size = ImageSize(transform.min_size[-1], transform.max_size, transform.size_divisible)
        assert size == SIZE == ImageSize()

    def test_without_weights_all_is_random_and_learns(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            detector = TorchvisionDetector(FCOS, None)
        assert detector.class_names == loaded(FCOS).class_names
        assert all(parameter.requires_grad for parameter in detector.parameters())
        assert not any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())

    def test_the_weights_are_loaded(self) -> None:
        torch.manual_seed(0)
        weights = get_model(RETINANET_V2, weights=None, weights_backbone=None).state_dict()
        own = loaded(RETINANET_V2).state_dict()
        assert own.keys() == {f"model.{key}" for key in weights}
        assert all(torch.equal(own[f"model.{key}"], weights[key]) for key in weights)

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_fixed_is_what_torchvision_fixes(self, name: str) -> None:
        with pytest.MonkeyPatch.context() as patch:  # its own weights are random here
            random = get_model(name, weights=None, weights_backbone=None).state_dict()
            patch.setattr(WeightsEnum, "get_state_dict", lambda _, **__: random)
            theirs = get_model(name, weights="COCO_V1")
        ours = loaded(name).model
        for (path, one), other in zip(theirs.named_modules(), ours.modules(), strict=True):
            if "Conv2d" not in type(other).__name__:  # some are exact here
                assert type(one) is type(other), path
            assert getattr(one, "eps", None) == getattr(other, "eps", None), path
        assert {n: p.requires_grad for n, p in theirs.named_parameters()} == {
            n: p.requires_grad for n, p in ours.named_parameters()
        }

    def test_unknown_name(self) -> None:
        with pytest.raises(InputError, match="'ssd300_vgg16' is unknown; expected one of fcos_"):
            TorchvisionDetector("ssd300_vgg16", None)

    def test_unknown_weights(self) -> None:
        with pytest.raises(InputError, match=f"no weights 'V2' of {FCOS}; expected one of COCO_V1"):
            TorchvisionDetector(FCOS, "V2")

    def test_a_failed_download(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def offline(*_: object, **__: object) -> None:
            raise ConnectionError("no network")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(downloads, "_save", offline)
        with pytest.raises(InputError, match=f"{FCOS}_coco-.* could not be downloaded .*network"):
            TorchvisionDetector(FCOS, "COCO_V1")

    def test_a_download_that_broke_off(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        url = get_model_weights(FCOS).COCO_V1.url
        file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
        file.parent.mkdir(parents=True)
        file.write_bytes(b"PK")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(InputError, match="not COCO_V1 of .* as published .*cut short, at 2 b"):
            TorchvisionDetector(FCOS, "COCO_V1")

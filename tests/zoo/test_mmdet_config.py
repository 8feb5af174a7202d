from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import CAFFE, IMAGENET, Normalisation
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import load_detector, recorded_size
from bckd.zoo.mmdet_config import configured
from bckd.zoo.official import official_state_dict

# As mmdetection 3 writes it: names, `dict(...)`, things that only Python could compute.
TEXT = """
backend_args = None
max_epochs = 2 * 6
scale = (1000, 600)
model = dict(
    backbone=dict(depth=50, style='pytorch', type='ResNet'),
    bbox_head=dict(
        anchor_generator=dict(
            octave_base_scale=8, ratios=[1.0], scales_per_octave=1, strides=[8, 16]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        type='ATSSHead'),
    data_preprocessor=dict(
        bgr_to_rgb=True, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
test_pipeline = [
    dict(backend_args=backend_args, type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=scale, type='Resize'),
]
"""


def model(head: str = "atss", **changes: Any) -> DetectorConfig:
    return DetectorConfig(head, "resnet50", pretrained=False, **changes)  # type: ignore[arg-type]


def test_what_the_weights_do_not_say() -> None:
    guessed = model("fcos", caffe=True, normalisation=CAFFE)
    found, size = configured(guessed, TEXT.replace("ATSSHead", "FCOSHead"))
    assert not found.caffe and found.normalisation == IMAGENET
    assert size == ImageSize(600, 1000)
    caffe, _ = configured(model(), TEXT.replace("'pytorch'", "'caffe'"))
    assert caffe.caffe


def test_the_older_version_says_it_elsewhere() -> None:
    text = """
img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=(1333, 800), transforms=[
    dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg)])]
"""
    found, size = configured(model(), text)
    mean, deviation = (103.53 / 255, 116.28 / 255, 123.675 / 255), (1 / 255,) * 3
    assert found == replace(model(), normalisation=Normalisation(mean, deviation, bgr=True))
    assert size == ImageSize(800, 1333)


@pytest.mark.parametrize(
    ("head", "words", "changed", "named"),
    [
        ("atss", "ratios=[1.0]", "ratios=[0.5, 1.0]", "anchor_generator.ratios .0.5, 1.0."),
        ("gfl", "scales_per_octave=1", "scales_per_octave=3", "scales_per_octave 3; expected 1"),
        ("atss", "use_sigmoid=True", "use_sigmoid=False", "loss_cls.use_sigmoid False"),
        ("fcos", "type='ATSSHead'", "norm_on_bbox=True", "norm_on_bbox True; expected False"),
        ("fcos", "type='ATSSHead'", "centerness_on_reg=True", "centerness_on_reg True"),
        ("retinanet", "", "", "scales_per_octave 1; expected 3"),
    ],
)
def test_what_is_computed_otherwise_is_refused(
    head: str, words: str, changed: str, named: str
) -> None:
    with pytest.raises(InputError, match=f"its configuration has bbox_head.*{named}"):
        configured(model(head), TEXT.replace(words, changed))


@pytest.mark.parametrize(
    "text", ["", "model = ", "model = 3", "model = open('x')", "(" * 500, "\0"]
)
def test_what_is_no_configuration_changes_nothing(text: str) -> None:
    assert configured(model(), text) == (model(), None)


def test_a_file_with_its_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(model(channels=8, head_groups=8, head_convs=1), backbone="resnet18")
    detector = Detector(config, ("a", "b"))
    text = TEXT.replace("mean=[123.675,", "mean=[100.0,")
    meta = {"cfg": text, "dataset_meta": {"classes": ("a", "b")}}
    torch.save({"state_dict": official_state_dict(detector), "meta": meta}, tmp_path / "a.pth")
    found = load_detector(tmp_path / "a.pth")
    assert found.size == recorded_size(tmp_path / "a.pth") == ImageSize(600, 1000)
    assert found.detector.normalisation.mean[0] == 100 / 255
    assert "a.pth: 1 settings are its configuration's: normalisation\n" in capsys.readouterr().out

"""The live lab's Python side: networks as lists of steps, scenes as items and arrays."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bckd.course.lesson import Lesson
from bckd.course.live_lab import live_lab
from bckd.datasets.scene_drawing import class_names, describe_scene, draw_scene
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.system.errors import InputError
from bckd.viz.explorers.live_lab import ROLES, LiveLab
from bckd.viz.explorers.network_weights import in_sixteen_bits, packed_network
from bckd.viz.explorers.scene_data import scene_data, scene_items

DATA = Path(__file__).parents[2] / "data"
LESSON = Lesson(DATA / "scenes-quickstart", DATA / "weights")


@pytest.fixture(scope="module")
def detectors() -> dict[str, DenseDetector]:
    return {"teacher": LESSON.teacher, **LESSON.students}


@pytest.fixture(scope="module")
def images(detectors: dict[str, DenseDetector]) -> torch.Tensor:
    pictures = torch.from_numpy(np.stack([draw_scene(0, n, "val")[0] for n in range(2)]))
    sizes = torch.tensor([[128, 128]] * 2)
    return detectors["BCKD"].normalisation.images_of(pictures.permute(0, 3, 1, 2), sizes)


def run_steps(packed: dict[str, Any], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """All maps that the steps make, by name: what network.js computes, in torch."""
    factors = np.repeat(packed["factors"], packed["lengths"])
    weights = torch.from_numpy(packed["weights"] * factors)
    maps = {"image": images}

    def values(start: int, *shape: int) -> torch.Tensor:
        return weights[start : start + int(np.prod(shape))].reshape(shape)

    for step in packed["steps"]:
        first, *others = (maps[name] for name in step["from"])
        if step["kind"] == "convolution":
            shape = (step["outputs"], step["size"], step["size"], step["inputs"])
            kernel = values(step["at"], *shape).permute(0, 3, 1, 2)
            bias = values(step["at"] + kernel.numel(), step["outputs"])
            found = F.conv2d(first, kernel, bias, step["stride"], step["size"] // 2)
            found = found.relu() if step["relu"] else found
        elif step["kind"] == "average":
            found = F.avg_pool2d(first, 2)
        elif step["kind"] == "sum":
            found = (first + others[0]).relu()
        elif step["kind"] == "upsampled sum":
            found = first + F.interpolate(others[0], scale_factor=2)
        else:
            count = first.shape[1]
            factor, bias = values(step["at"], count), values(step["at"] + count, count)
            found = F.group_norm(first, step["groups"], factor, bias, step["epsilon"]).relu()
        maps[step["to"]] = found
    return maps


@torch.no_grad()
def test_the_steps_are_the_network(
    detectors: dict[str, DenseDetector], images: torch.Tensor
) -> None:
    for role in ("teacher", "BCKD"):
        packed = packed_network(detectors[role])
        maps = run_steps(packed, images)
        expected = in_sixteen_bits(detectors[role])(images)
        logits = [maps[level["classes"]].flatten(2).mT for level in packed["levels"]]
        torch.testing.assert_close(torch.cat(logits, dim=1), expected.cls_logits)
        boxes = [
            (maps[level["boxes"]] * level["scale"]).flatten(2).mT.unflatten(-1, (4, -1))
            for level in packed["levels"]
        ]
        assert expected.box_logits is not None
        torch.testing.assert_close(torch.cat(boxes, dim=1), expected.box_logits)


@torch.no_grad()
def test_rounding_moves_the_fourth_digit_of_a_score_at_most(
    detectors: dict[str, DenseDetector], images: torch.Tensor
) -> None:
    for detector in detectors.values():
        exact, rounded = detector(images), in_sixteen_bits(detector)(images)
        assert (exact.scores - rounded.scores).abs().max() < 2e-4
        assert 0 < (exact.boxes - rounded.boxes).abs().max() < 0.01  # pixels


def test_each_output_has_a_factor_of_its_own(detectors: dict[str, DenseDetector]) -> None:
    detector = in_sixteen_bits(detectors["none"])
    conv = detector.head.cls
    with torch.no_grad():
        conv.weight[1] = conv.weight[0] / 1000
        conv.weight[2] = 0
    rounded = in_sixteen_bits(detector).head.cls.weight
    for weights, found in zip(conv.weight[:2], rounded[:2], strict=True):
        assert (weights - found).abs().max() <= weights.abs().max() / 32767
    assert not rounded[2].any()


def test_weights_are_sent_once_in_two_bytes_each(detectors: dict[str, DenseDetector]) -> None:
    for role, count in (("teacher", 922_000), ("BCKD", 62_500)):
        packed = packed_network(detectors[role])
        assert packed["weights"].dtype == np.int16
        assert len(packed["weights"]) == pytest.approx(count, rel=0.01)
        places = {step["at"] for step in packed["steps"] if step["kind"] == "convolution"}
        assert len(places) == len(
            [m for m in detectors[role].modules() if isinstance(m, nn.Conv2d)]
        )


def test_other_detectors_are_refused() -> None:
    config = DetectorConfig(
        "fcos", "small_resnet", False, frozen_stages=0, width=8, channels=16, head_groups=4
    )
    with pytest.raises(InputError, match="GFLHead with a SmallResNet, found a FCOSHead with"):
        packed_network(Detector(config, class_names()))


def test_a_weight_that_is_not_finite_is_refused(detectors: dict[str, DenseDetector]) -> None:
    broken = in_sixteen_bits(detectors["BCKD"])
    with torch.no_grad():
        broken.head.cls.bias[0] = float("nan")
    with pytest.raises(InputError, match=r"head\.cls\.bias has a weight that is not finite"):
        in_sixteen_bits(broken)


def test_items_tell_outlines_paint_and_textures() -> None:
    for index in range(6):
        scene = describe_scene(0, index, "val")
        items, data = scene_items(scene), scene_data(scene)
        json.dumps(items, allow_nan=False)
        assert [item["label"] for item in items] == [layer.label for layer in scene.layers]
        for item, layer in zip(items, scene.layers, strict=True):
            texture = layer.paint.texture
            assert item["texture"]["kind"] == texture.kind
            place = item["texture"]["values"]
            assert (place is None) == (texture.values is None)
            if texture.values is not None:
                units = 1 if texture.kind == "speckle" else 65535
                sent = data["textures"][place] / units
                assert sent == pytest.approx(texture.values.astype(float), abs=1e-5)


class TestLab:
    def test_begins_with_the_first_validation_picture(self) -> None:
        lab = live_lab(LESSON)
        assert lab.state["scene"] == "validation picture 1"
        labels = [item["label"] for item in lab.state["items"] if item["label"] is not None]
        assert labels == [item.label for item in draw_scene(0, 0, "val")[1]]
        assert lab.state["shown"] is None

    def test_static_page_is_below_4_mb_and_needs_nothing_else(self) -> None:
        html = live_lab(LESSON).static_html()
        assert len(html.encode()) < 4_000_000
        assert not re.search(r"https?:|\bsrc=|\bhref=|@import|url\(", html)

    @pytest.mark.parametrize(
        ("networks", "scenes", "sentence"),
        [
            (ROLES[:3], 1, "shows the networks teacher, none, softmax, BCKD; found teacher, none"),
            ((), 1, "found none"),
            (ROLES, 0, "no scene was given; expected at least one"),
        ],
    )
    def test_bad_arguments(
        self, detectors: dict[str, DenseDetector], networks: tuple, scenes: int, sentence: str
    ) -> None:
        chosen = {role: detectors[role] for role in networks}
        given = {str(n): describe_scene(0, n, "val") for n in range(scenes)}
        with pytest.raises(InputError, match=re.escape(sentence)):
            LiveLab(chosen, given)

    def test_other_classes_are_refused(self, detectors: dict[str, DenseDetector]) -> None:
        other = copy.copy(detectors["none"])
        other.class_names = ("a", "b")
        with pytest.raises(InputError, match="the classes of none are a, b; expected those of"):
            LiveLab({**detectors, "none": other}, {"a": describe_scene(0, 0, "val")})

"""The score-map explorer's Python side: its values, its size, its page, what it refuses."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bckd.geometry import box_similarity
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.explorers.base import MAX_BYTES
from bckd.viz.explorers.score_maps import ScoreMapExplorer
from bckd.viz.location_losses import binary_pull, softmax_pull
from bckd.viz.roles import roles_of

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
TRUTH = (torch.tensor([[2.0, 3.0, 20.0, 30.0]]), torch.tensor([1]))


@pytest.fixture
def outputs(dense_output: Callable[..., DenseOutput]) -> dict[str, DenseOutput]:
    return {name: dense_output(seed) for seed, name in enumerate(("teacher", "BCKD", "softmax"))}


@pytest.fixture
def explorer(outputs: dict[str, DenseOutput]) -> ScoreMapExplorer:
    return ScoreMapExplorer(PICTURE, outputs, NAMES, TRUTH, image=1)


def unpacked(packed: dict) -> np.ndarray:
    values = np.frombuffer(packed["buffer"], np.dtype(packed["dtype"]).newbyteorder("<"))
    return values.reshape(packed["shape"])


class TestData:
    def test_logits_and_boxes_are_those_of_the_image(
        self, explorer: ScoreMapExplorer, outputs: dict[str, DenseOutput]
    ) -> None:
        assert explorer.data["models"] == list(outputs)
        for place, output in enumerate(outputs.values()):
            logits = unpacked(explorer.data["logits"][place]).view(np.float16)
            expected = output.cls_logits[1].detach()
            assert logits == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-6)
            boxes = unpacked(explorer.data["boxes"][place])
            assert np.array_equal(boxes, output.boxes[1].detach().numpy())

    def test_small_pictures_lose_nothing_and_large_ones_little(
        self, explorer: ScoreMapExplorer, dense_output: Callable[..., DenseOutput]
    ) -> None:
        kind, _, content = explorer.data["picture"].partition(";base64,")
        assert kind == "data:image/png"
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert np.array_equal(np.asarray(picture), PICTURE)
        noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
        outputs = {n: dense_output(shapes=((64, 64),), strides=(8,)) for n in ("teacher", "s")}
        large = ScoreMapExplorer(noise, outputs, NAMES)
        assert large.data["picture"].startswith("data:image/jpeg;base64,")

    def test_levels_and_objects(self, explorer: ScoreMapExplorer) -> None:
        assert explorer.data["levels"] == [[8, 4, 5], [16, 2, 3]]
        assert explorer.data["size"] == [40, 32]
        assert unpacked(explorer.data["stack"]).shape == (2, 4, 5)
        assert unpacked(explorer.data["objects"]["boxes"]).tolist() == TRUTH[0].tolist()
        assert explorer.data["objects"]["labels"] == [1]

    def test_too_much_for_a_page(self, dense_output: Callable[..., DenseOutput]) -> None:
        shape = {"shapes": ((160, 160),), "strides": (8,), "num_images": 1, "bins": 1}
        outputs = {name: dense_output(num_classes=80, **shape) for name in ("teacher", "s")}
        picture = np.zeros((1280, 1280, 3), np.uint8)
        with pytest.raises(InputError, match=r"the data of ScoreMapExplorer has .* MB; at most 5"):
            ScoreMapExplorer(picture, outputs, [str(k) for k in range(80)])


class TestChoose:
    def test_the_start_is_the_first_guided_step(self, explorer: ScoreMapExplorer) -> None:
        state = explorer.state
        assert (state["kind"], state["protocol"]) == ("score", "sigmoid")
        assert state["preset"] == "background" and state["ground_truth"] is True
        assert state["shown"]["location"] == explorer.pictured.background_location()
        assert explorer.data["roles"] == ["teacher", "BCKD", "softmax"]
        for name, location in (
            ("object", explorer.pictured.object_location()),
            ("haze", explorer.pictured.haze_location(TRUTH[0].numpy())),
        ):
            assert explorer.pictured.location(explorer.data["cells"][name]) == location

    def test_a_cell_in_numbers(
        self, explorer: ScoreMapExplorer, outputs: dict[str, DenseOutput]
    ) -> None:
        explorer.choose(cell=(8, 1, 2), kind="difference")
        shown = explorer.state["shown"]
        assert explorer.state["preset"] == ""
        assert (shown["location"], shown["centre"]) == (7, [16, 8])
        logits = {name: output.cls_logits[1, 7].detach() for name, output in outputs.items()}
        scores = {name: each.sigmoid() for name, each in logits.items()}
        for one in shown["classes"]:
            label = NAMES.index(one["name"])
            for name, each in logits.items():
                assert one["sigmoid"][name] == pytest.approx(scores[name][label].item(), abs=1e-3)
                softmax = each.softmax(-1)[label].item()
                assert one["softmax"][name] == pytest.approx(softmax, abs=1e-3)
        highest = torch.stack(list(scores.values())).amax(dim=0).argsort(descending=True)
        assert [one["name"] for one in shown["classes"]] == [NAMES[k] for k in highest]
        boxes = {name: output.boxes[1, 7].detach() for name, output in outputs.items()}
        for name, box in boxes.items():
            assert shown["boxes"][name] == pytest.approx(box.tolist(), abs=1e-5)
            assert shown["mean_logit"][name] == pytest.approx(logits[name].mean().item(), abs=1e-2)
        iou = box_similarity(boxes["softmax"], boxes["teacher"]).item()
        assert shown["iou"]["softmax"] == pytest.approx(iou, abs=1e-5)
        for key, pull in (("binary", binary_pull), ("softmax", softmax_pull)):
            for name in ("BCKD", "softmax"):
                loss, gradient = pull(logits[name][None], logits["teacher"][None])
                assert shown[f"{key}_loss"][name] == pytest.approx(loss, abs=1e-3)
                assert shown[f"{key}_sum"][name] == pytest.approx(gradient.sum().item(), abs=1e-3)
                for one in shown["classes"]:
                    expected = gradient[0, NAMES.index(one["name"])].item()
                    assert one[f"{key}_gradient"][name] == pytest.approx(expected, abs=1e-3)

    def test_the_cell_stays_when_other_settings_change(self, explorer: ScoreMapExplorer) -> None:
        explorer.choose(cell=(16, 1, 2))
        for settings in ({"protocol": "softmax"}, {"kind": "pull"}, {"class_name": "square"}):
            explorer.choose(**settings)
            assert explorer.state["cell"] == [16, 1, 2]
            assert explorer.state["shown"]["location"] == 20 + 5

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"class_name": "oval"}, "no class 'oval'"),
            ({"stride": 32}, "no level of stride 32"),
            ({"kind": "weight"}, "no kind of map 'weight'; expected one of score, difference"),
            ({"protocol": "relu"}, "no protocol 'relu'"),
            ({"cell": (8, 4, 0)}, "no row 4, column 0 on the level of stride 8, which has 4 x 5"),
            ({"colour": "red"}, "no setting 'colour'; expected one of cell, class_name"),
        ],
    )
    def test_refusals(self, explorer: ScoreMapExplorer, settings: dict, words: str) -> None:
        before = explorer.state
        with pytest.raises(InputError, match=words):
            explorer.choose(**settings)
        assert explorer.state == before

    def test_refuses_what_does_not_correspond(self, outputs: dict[str, DenseOutput]) -> None:
        broken = {**outputs, "BCKD": replace(outputs["BCKD"], boxes=outputs["BCKD"].boxes / 0)}
        with pytest.raises(InputError, match="boxes of 'BCKD'"):
            ScoreMapExplorer(PICTURE, broken, NAMES)
        with pytest.raises(InputError, match="label 5 names no class"):
            ScoreMapExplorer(PICTURE, outputs, NAMES, (TRUTH[0], torch.tensor([5])))


def test_roles_by_name_and_by_place() -> None:
    assert roles_of(["big", "none", "softmax", "BCKD"]) == ["teacher", "labels", "softmax", "BCKD"]
    assert roles_of(["teacher", "mine", "BCKD", "yours"]) == [
        "teacher",
        "student",
        "BCKD",
        "second",
    ]


class TestPage:
    def test_needs_no_network(self, explorer: ScoreMapExplorer) -> None:
        page = explorer.static_html()
        assert len(page.encode()) < MAX_BYTES
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)

    def test_holds_the_state(self, explorer: ScoreMapExplorer) -> None:
        explorer.choose(cell=(16, 0, 1), protocol="softmax")
        text = re.search(r'<script type="application/json">(.*?)</script>', explorer.static_html())
        assert json.loads(text[1])["state"] == explorer.state

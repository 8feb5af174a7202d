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
    def test_the_start(self, explorer: ScoreMapExplorer) -> None:
        assert explorer.state["model"] == "teacher"
        assert (explorer.state["kind"], explorer.state["protocol"]) == ("score", "sigmoid")
        assert explorer.state["shown"] is None
        assert explorer.state["ground_truth"] is True

    def test_a_point_shows_its_location(
        self, explorer: ScoreMapExplorer, outputs: dict[str, DenseOutput]
    ) -> None:
        explorer.choose(point=(21, 10), stride=8, kind="difference", model="BCKD")
        shown = explorer.state["shown"]
        assert explorer.state["pinned"] is True
        assert (shown["location"], shown["row"], shown["column"]) == (7, 1, 2)
        assert (shown["stride"], shown["centre"]) == (8, [16, 8])
        logits = {name: output.cls_logits[1, 7].detach() for name, output in outputs.items()}
        scores = {name: each.sigmoid() for name, each in logits.items()}
        gap = (scores["BCKD"] - scores["teacher"]).abs().max().item()
        assert shown["value"] == pytest.approx(gap, abs=1e-3)
        assert shown["weight"]["BCKD"] == pytest.approx(gap, abs=1e-3)
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

    def test_settings_stay_and_may_begin(self, outputs: dict[str, DenseOutput]) -> None:
        explorer = ScoreMapExplorer(PICTURE, outputs, NAMES, class_name="square", point=(1, 1))
        explorer.choose(protocol="softmax")
        state = explorer.state
        assert (state["class_name"], state["protocol"]) == ("square", "softmax")
        assert state["point"] == [1, 1] and state["shown"]["location"] in (0, 20)
        explorer.choose(point=None)
        assert explorer.state["shown"] is None and explorer.state["pinned"] is False

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"class_name": "oval"}, "no class 'oval'"),
            ({"stride": 32}, "no level of stride 32"),
            ({"kind": "difference"}, "'teacher'; expected one of BCKD, softmax"),
            ({"model": "DFL"}, "'DFL'; expected one of teacher, BCKD, softmax"),
            ({"protocol": "relu"}, "no protocol 'relu'"),
            ({"opacity": 2}, "opacity is 2; expected 0 to 1"),
            ({"point": (40, 0)}, r"point \(40.0, 0.0\) is outside the picture, 40 x 32"),
            ({"colour": "red"}, "no setting 'colour'; expected one of class_name"),
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


class TestPage:
    def test_needs_no_network(self, explorer: ScoreMapExplorer) -> None:
        page = explorer.static_html()
        assert len(page.encode()) < MAX_BYTES
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)

    def test_holds_the_state(self, explorer: ScoreMapExplorer) -> None:
        explorer.choose(point=(5, 5), opacity=0.3)
        text = re.search(r'<script type="application/json">(.*?)</script>', explorer.static_html())
        assert json.loads(text[1])["state"] == explorer.state

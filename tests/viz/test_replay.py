"""The training replay's Python side: its frames, its values, its page, what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bckd.structures import DenseOutput, Detections
from bckd.system.errors import InputError
from bckd.viz.explorers.replay import SCORE_UNITS, Phase, TrainingReplay
from bckd.viz.replay_curves import value_at
from bckd.viz.replay_frames import found_on

PICTURE = np.full((32, 40, 3), 128, dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
STEPS = (0, 10, 40)
TRUTH = (torch.tensor([[2.0, 3.0, 20.0, 30.0], [1.0, 1.0, 9.0, 9.0]]), torch.tensor([1, 0]))
CURVES = {
    "AP": {"teacher": [(0, 0.6), (40, 0.6)], "labels": [(20, 0.1), (40, 0.25)]},
    "found": {"labels": [(0, 0.0), (19, 0.5), (40, 1.0)], "BCKD": [(0, 0.0), (40, 1.0)]},
}
PHASES = (Phase(0, "dark", "nothing yet"), Phase(40, "light", "all there"))


@pytest.fixture
def students(dense_output: Callable[..., DenseOutput]) -> dict[str, list[DenseOutput]]:
    seeds = {"labels": (1, 2, 3), "BCKD": (4, 5, 6)}
    return {name: [dense_output(n, num_images=1) for n in seeds[name]] for name in seeds}


@pytest.fixture
def parts(students: dict, dense_output: Callable[..., DenseOutput]) -> dict[str, Any]:
    return {
        "picture": PICTURE,
        "steps": STEPS,
        "teacher": dense_output(0, num_images=1),
        "students": students,
        "class_names": NAMES,
        "ground_truth": TRUTH,
        "curves": CURVES,
        "phases": PHASES,
    }


@pytest.fixture
def replay(parts: dict[str, Any]) -> TrainingReplay:
    return TrainingReplay(**parts)


class TestFound:
    def test_objects_names_and_strays(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70], [20, 20, 30, 30]])
        near = torch.tensor([[0.0, 0, 10, 9], [50, 50, 70, 69], [51, 51, 70, 70], [80, 80, 90, 90]])
        found = Detections(near, torch.tensor([0.9, 0.6, 0.5, 0.4]), torch.tensor([1, 0, 2, 1]))
        labels = torch.tensor([1, 2, 0])
        assert found_on(found, boxes, labels) == (3, 2, 2, 1)
        assert found_on(found, boxes, labels, 0.55) == (3, 2, 1, 0), "the wrong name alone"
        assert found_on(found, boxes, labels, 0.95) == (3, 0, 0, 0)

    def test_half_an_overlap(self) -> None:
        box = torch.tensor([[0.0, 0, 10, 10]])
        for bottom, hits in ((5.1, 1), (4.9, 0)):
            one = Detections(torch.tensor([[0.0, 0, 10, bottom]]), torch.ones(1), torch.zeros(1))
            assert found_on(one, box, torch.zeros(1))[1] == hits


def test_the_value_at_a_step() -> None:
    curve = [(0, 2.0), (9, 1.5), (19, 1.0)]
    found = [value_at(curve, step) for step in (0, 6, 9, 14, 19, 100)]
    assert found == pytest.approx([2, 2 - 1 / 3, 1.5, 1.25, 1, 1])  # on the line, as drawn
    assert value_at(curve, -1) is None


class TestReplay:
    def test_the_scores_are_those_of_the_outputs(
        self, replay: TrainingReplay, parts: dict[str, Any]
    ) -> None:
        assert replay.data["models"] == ["teacher", "labels", "BCKD"]
        outputs = [[parts["teacher"]], *parts["students"].values()]
        for packed, expected in zip(replay.data["scores"], outputs, strict=True):
            found = np.frombuffer(packed["buffer"], "<u2").reshape(packed["shape"]) / SCORE_UNITS
            scores = torch.cat([output.cls_logits.detach().sigmoid() for output in expected])
            assert found == pytest.approx(scores.numpy(), abs=1e-3)

    @pytest.mark.parametrize("label", [None, 2])
    def test_maps_and_differences(
        self, replay: TrainingReplay, parts: dict[str, Any], label: int | None
    ) -> None:
        teacher = parts["teacher"].cls_logits[0].detach().sigmoid()
        student = parts["students"]["BCKD"][1].cls_logits[0].detach().sigmoid()
        for difference, scores in ((False, student), (True, (student - teacher).abs())):
            expected = scores.amax(dim=-1) if label is None else scores[:, label]
            found = replay.frames.values("BCKD", 1, label, difference)
            assert found == pytest.approx(expected.numpy(), abs=1e-3)

    def test_a_step_in_numbers(self, replay: TrainingReplay, parts: dict[str, Any]) -> None:
        replay.choose(step=10, threshold=0.6)
        shown = replay.state["shown"]
        for name, output in (
            ("teacher", parts["teacher"]),
            ("labels", parts["students"]["labels"][1]),
        ):
            found = found_on(replay.frames.detections[name][1], *TRUTH, 0.6)
            own = shown["detectors"][name]
            assert (own["objects"], own["named"]) == (found.found, found.named)
            highest = output.cls_logits.detach().sigmoid().max().item()
            assert own["highest"] == pytest.approx(highest, abs=1e-3)
        assert shown["curves"]["AP"] == {"teacher": 0.6, "labels": None}
        half = {"labels": pytest.approx(5 / 19), "BCKD": pytest.approx(0.25)}
        assert shown["curves"]["found"] == half

    def test_without_curves_and_phases(self, parts: dict[str, Any]) -> None:
        replay = TrainingReplay(**{**parts, "curves": {}, "phases": ()}, step=40)
        assert replay.state["step"] == 40 and replay.state["shown"]["curves"] == {}

    def test_the_page_needs_no_network(self, replay: TrainingReplay) -> None:
        page = replay.static_html()
        assert len(page.encode()) < 100_000
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"step": 30}, "no frame of step 30; expected one of 0, 10, 40"),
            ({"kind": "pull"}, "no kind 'pull'; expected one of score, difference"),
            ({"class_name": "oval"}, "no class 'oval'"),
            ({"stride": 4}, "no level of stride 4"),
            ({"threshold": 0.01}, "the threshold is 0.01; expected 0.05 to 1"),
            ({"index": 0}, "no setting 'index'; expected one of class_name, kind"),
        ],
    )
    def test_settings_that_are_not(
        self, replay: TrainingReplay, settings: dict, words: str
    ) -> None:
        before = replay.state
        with pytest.raises(InputError, match=words):
            replay.choose(**settings)
        assert replay.state == before

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"steps": (0, 10)}, "2 steps and 3 dense outputs of 'labels'"),
            ({"steps": (0, 10, 10)}, "steps have 10 after 10"),
            ({"curves": {"AP": {"labels": []}}}, "curve 'AP' of 'labels' is empty"),
            ({"curves": {"AP": {"BCKD": [(5, 0.1), (3, 0.2)]}}}, "'BCKD' have 3 after 5"),
            ({"curves": {"AP": {"BCKD": [(5, float("nan"))]}}}, "no finite value at step 5"),
            ({"curves": {"AP": {"LD": [(5, 0.1)]}}}, "curve 'AP' is of 'LD'; expected one of"),
            ({"phases": (Phase(7, "a", "b"),)}, "no frame of step 7"),
            ({"ground_truth": (TRUTH[0], torch.tensor([5, 0]))}, "label 5 names no class"),
        ],
    )
    def test_what_is_no_replay(self, parts: dict[str, Any], changed: dict, words: str) -> None:
        with pytest.raises(InputError, match=words):
            TrainingReplay(**{**parts, **changed})

    def test_outputs_that_differ(self, parts: dict[str, Any]) -> None:
        first, second, third = parts["students"]["BCKD"]
        broken = replace(third, cls_logits=third.cls_logits * float("nan"))
        students = {**parts["students"], "BCKD": [first, second, broken]}
        with pytest.raises(InputError, match="cls_logits of 'BCKD, frame 2'"):
            TrainingReplay(**{**parts, "students": students})

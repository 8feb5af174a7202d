"""The training replay's Python side: the files of a run, its values, its page, what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bckd.course.replay_data import checkpoint_outputs, curves_of_run
from bckd.image_size import ImageSize
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.explorers.replay import SCORE_UNITS, TrainingReplay
from bckd.viz.replay_curves import value_at
from bckd.zoo.checkpoints import save_detector

PICTURE = np.full((32, 40, 3), 128, dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
STEPS = (10, 20, 40)
CURVES = {"AP": [(20, 0.1), (40, 0.25)], "GIoU loss": [(0, 2.0), (9, 1.5), (19, 1.0)]}


@pytest.fixture
def outputs(dense_output: Callable[..., DenseOutput]) -> list[DenseOutput]:
    return [dense_output(seed) for seed in range(len(STEPS))]


@pytest.fixture
def replay(outputs: list[DenseOutput]) -> TrainingReplay:
    return TrainingReplay(PICTURE, STEPS, outputs, CURVES, NAMES, image=1)


class TestCurves:
    def test_of_a_log(self, tmp_path: Path) -> None:
        records = [
            {"step": 0, "unweighted": {"giou": 2.0, "mine": 5.0}, "loss": 7.0},
            {"step": 5, "unweighted": {"giou": None, "mine": 4.0}},
            {"step": 6, "metrics": {"AP": 0.25, "AP50": 0.5}},
        ]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in records))
        assert curves_of_run(tmp_path) == {
            "AP": [(6, 0.25)],
            "GIoU loss": [(0, 2.0)],
            "mine": [(0, 5.0), (5, 4.0)],
        }
        assert next(iter(curves_of_run(tmp_path))) == "AP"

    def test_no_log(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"log\.jsonl has no losses or AP"):
            curves_of_run(tmp_path)

    def test_the_value_at_a_step(self) -> None:
        curve = CURVES["GIoU loss"]
        found = [value_at(curve, step) for step in (0, 6, 9, 14, 19, 100)]
        assert found == pytest.approx([2, 2 - 1 / 3, 1.5, 1.25, 1, 1])  # on the line, as drawn
        assert value_at(curve, -1) is None


class TestCheckpoints:
    @pytest.fixture
    def files(self, tmp_path: Path, tiny_detector: Callable) -> dict[int, Path]:
        files = {step: tmp_path / f"{step}.safetensors" for step in (20, 10)}
        for step, path in files.items():
            save_detector(path, tiny_detector(NAMES, seed=step), ImageSize(64, 64), {})
        return files

    def test_speak_in_order(self, files: dict[int, Path], tiny_detector: Callable) -> None:
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        steps, outputs, names = checkpoint_outputs(files, images)
        assert (steps, names) == ([10, 20], NAMES)
        with torch.no_grad():
            expected = tiny_detector(NAMES, seed=10)(images)
        assert torch.equal(outputs[0].cls_logits, expected.cls_logits)
        assert outputs[0].features == ()

    def test_refusals(self, files: dict[int, Path], tiny_detector: Callable) -> None:
        images = torch.zeros(1, 3, 64, 64)
        with pytest.raises(InputError, match="no checkpoint"):
            checkpoint_outputs({}, images)
        save_detector(files[20], tiny_detector(("a", "b")), ImageSize(64, 64), {})
        with pytest.raises(InputError, match=r"20\.safetensors has other classes"):
            checkpoint_outputs(files, images)


class TestReplay:
    def test_the_scores_are_those_of_the_outputs(
        self, replay: TrainingReplay, outputs: list[DenseOutput]
    ) -> None:
        packed = replay.data["scores"]
        found = np.frombuffer(packed["buffer"], "<u2").reshape(packed["shape"]) / SCORE_UNITS
        expected = torch.stack([output.cls_logits[1].detach().sigmoid() for output in outputs])
        assert found == pytest.approx(expected.numpy(), abs=1e-3)

    @pytest.mark.parametrize("class_name", [None, "square"])
    @pytest.mark.parametrize("stride", [None, 8, 16])
    def test_a_step_in_numbers(
        self,
        replay: TrainingReplay,
        outputs: list[DenseOutput],
        class_name: str | None,
        stride: int | None,
    ) -> None:
        replay.choose(step=20, class_name=class_name, stride=stride)
        scores = outputs[1].cls_logits[1].detach().sigmoid()
        scores = scores[:, 1] if class_name else scores.amax(dim=-1)
        if stride is not None:
            scores = scores[outputs[1].locations.strides == stride]
        shown = replay.state["shown"]
        assert shown["highest"] == pytest.approx(scores.max().item(), abs=1e-3)
        assert shown["mean"] == pytest.approx(scores.mean().item(), abs=1e-3)
        assert shown["curves"] == {"AP": 0.1, "GIoU loss": 1.0}

    def test_before_the_first_value(self, replay: TrainingReplay) -> None:
        assert replay.state["step"] == 10
        assert replay.state["shown"]["curves"] == {"AP": None, "GIoU loss": pytest.approx(1.45)}

    def test_without_curves(self, outputs: list[DenseOutput]) -> None:
        replay = TrainingReplay(PICTURE, STEPS, outputs, {}, NAMES, step=40)
        assert replay.state["shown"]["curves"] == {}

    def test_the_page_needs_no_network(self, replay: TrainingReplay) -> None:
        page = replay.static_html()
        assert len(page.encode()) < 100_000
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"step": 30}, "no checkpoint of step 30; expected one of 10, 20, 40"),
            ({"class_name": "oval"}, "no class 'oval'"),
            ({"stride": 4}, "no level of stride 4"),
            ({"opacity": -1}, "opacity is -1"),
            ({"index": 0}, "no setting 'index'; expected one of class_name, opacity"),
        ],
    )
    def test_settings_that_are_not(
        self, replay: TrainingReplay, settings: dict, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            replay.choose(**settings)

    @pytest.mark.parametrize(
        ("steps", "curves", "words"),
        [
            ((10, 20), {}, "2 steps and 3 dense outputs"),
            ((10, 20, 20), {}, "steps have 20 after 20"),
            (STEPS, {"AP": []}, "curve 'AP' is empty"),
            (STEPS, {"AP": [(5, 0.1), (3, 0.2)]}, "steps of curve 'AP' have 3 after 5"),
            (STEPS, {"AP": [(5, float("nan"))]}, "curve 'AP' has no finite value at step 5"),
        ],
    )
    def test_what_is_no_run(
        self, outputs: list[DenseOutput], steps: tuple, curves: dict, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            TrainingReplay(PICTURE, steps, outputs, curves, NAMES)

    def test_outputs_that_differ(self, outputs: list[DenseOutput]) -> None:
        broken = replace(outputs[2], cls_logits=outputs[2].cls_logits * float("nan"))
        with pytest.raises(InputError, match="cls_logits of 'step 40'"):
            TrainingReplay(PICTURE, STEPS, [*outputs[:2], broken], CURVES, NAMES)

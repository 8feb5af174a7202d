"""The figures that stand for the explorers of maps where no script runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.explorer_figures import location_panel, replay_strip, score_map_panel
from bckd.viz.picture_outputs import outputs_of_picture
from bckd.viz.replay_frames import found_on, frames_of
from bckd.viz.style import ROLE_COLOURS

PICTURE = np.full((32, 40, 3), 128, dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
TRUTH = (torch.tensor([[2.0, 3.0, 20.0, 30.0]]), torch.tensor([1]))


@pytest.fixture
def outputs(dense_output: Callable[..., DenseOutput]) -> dict[str, DenseOutput]:
    return {name: dense_output(seed) for seed, name in enumerate(("teacher", "BCKD", "softmax"))}


def panels(drawing: Figure) -> dict[str, Axes]:
    drawing.draw_without_rendering()
    return {axes.get_title().replace("\n", ", "): axes for axes in drawing.axes}


class TestScoreMapPanel:
    def test_every_map_is_there_once(self, outputs: dict[str, DenseOutput]) -> None:
        drawing = score_map_panel(PICTURE, outputs, NAMES, TRUTH, image=1)
        pictured = outputs_of_picture(PICTURE, outputs, NAMES, 1)
        cell = pictured.background_location()
        found = panels(drawing)
        for name in outputs:
            for words, view in {
                "sigmoid score": ("score", name, "sigmoid"),
                "softmax score": ("score", name, "softmax"),
                "$|p_t - p_s|$": ("difference", name, "sigmoid"),
            }.items():
                values = pictured.values(*view)
                title = f"{name}: {words}, {values[cell]:.2f} at the cell"
                if (name, words) == ("teacher", "$|p_t - p_s|$"):
                    assert title not in found
                    continue
                (image,) = found[title].images
                assert np.array_equal(image.get_array(), pictured.over_picture(values))
                assert image.get_clim() == (0, 1)
                level, row, column = pictured.cell(cell)
                corners = np.array([column, row, column + 1, row + 1]) * level.stride
                assert found[title].patches[-1].get_bbox().extents == pytest.approx(corners)
        assert len(found["image and annotated boxes"].patches) == 2 * 2  # object and cell
        maps = [axes.images[0].get_array() for axes in drawing.axes if axes.images]
        assert len(maps) == 9 and not any(
            np.array_equal(a, b) for n, a in enumerate(maps) for b in maps[:n]
        )


class TestLocationPanel:
    def test_cell_boxes_and_scores(self, outputs: dict[str, DenseOutput]) -> None:
        drawing = location_panel(PICTURE, outputs, NAMES, (21, 10), image=1, stride=8)
        left, sigmoid, softmax = drawing.axes
        drawing.draw_without_rendering()
        assert left.get_title() == "stride 8, row 1, column 2"
        cell, *boxes = left.patches[1::2]
        assert cell.get_bbox().extents.tolist() == [16, 8, 24, 16]
        for rectangle, output in zip(boxes, outputs.values(), strict=True):
            expected = output.boxes[1, 7].tolist()
            assert rectangle.get_bbox().extents == pytest.approx(expected, abs=1e-4)
        classes = [text.get_text() for text in sigmoid.get_yticklabels()]
        for axes, protocol in ((sigmoid, torch.sigmoid), (softmax, lambda x: x.softmax(-1))):
            for bars, output in zip(axes.containers, outputs.values(), strict=True):
                scores = protocol(output.cls_logits[1, 7].detach())
                expected = [scores[NAMES.index(name)].item() for name in classes]
                assert [bar.get_width() for bar in bars] == pytest.approx(expected, abs=1e-3)

    def test_a_point_outside(self, outputs: dict[str, DenseOutput]) -> None:
        with pytest.raises(InputError, match="outside the picture"):
            location_panel(PICTURE, outputs, NAMES, (41, 3))


class TestReplayStrip:
    STEPS = (0, 10, 40)

    @pytest.fixture
    def parts(self, dense_output: Callable[..., DenseOutput]) -> dict[str, Any]:
        students = {
            name: [dense_output(3 * place + n, num_images=1) for n in range(len(self.STEPS))]
            for place, name in enumerate(("labels", "BCKD"), start=1)
        }
        return {
            "picture": PICTURE,
            "steps": self.STEPS,
            "teacher": dense_output(0, num_images=1),
            "students": students,
            "class_names": NAMES,
            "ground_truth": TRUTH,
            "curves": {"AP": {"labels": [(10, 0.2), (40, 0.3)], "teacher": [(0, 0.6), (40, 0.6)]}},
            "shown": (0, 40),
        }

    def test_a_row_a_student_and_the_curves(self, parts: dict[str, Any]) -> None:
        drawing = replay_strip(**parts)
        drawing.draw_without_rendering()
        titles = [axes.get_title() for axes in drawing.axes]
        frames = frames_of(PICTURE, parts["teacher"], parts["students"], NAMES)
        for name, places in {"labels": (0, 1), "BCKD": (3, 4)}.items():
            for axes, frame in zip((drawing.axes[n] for n in places), (0, 2), strict=True):
                count = found_on(frames.detections[name][frame], *TRUTH)
                step = self.STEPS[frame]
                assert axes.get_title() == f"step {step}: {count.found}, {count.named}"
                scores = parts["students"][name][frame].cls_logits.detach().sigmoid()
                image = axes.images[0].get_array()
                assert image.max() == pytest.approx(scores.max().item(), abs=1e-3)
        assert titles[2].startswith("teacher: ")
        chart = drawing.axes[titles.index("AP")]
        lines = {line.get_label(): line for line in chart.lines}
        assert lines["labels"].get_xydata().tolist() == [[10, 0.2], [40, 0.3]]
        assert lines["labels"].get_color() == ROLE_COLOURS["labels"]
        marks = [line.get_xdata().tolist() for line in chart.lines if line.get_marker() == "o"]
        assert marks == [[40], [0, 40]], "no mark before a curve's first value"

    def test_one_student_and_no_curve(self, parts: dict[str, Any]) -> None:
        alone = {"BCKD": parts["students"]["BCKD"]}
        found = panels(replay_strip(**{**parts, "students": alone, "curves": {}}))
        assert any(title.startswith("step 40") for title in found)

    def test_no_replay(self, parts: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="no frame of step 7; expected one of 0, 10, 40"):
            replay_strip(**{**parts, "shown": (0, 7)})
        with pytest.raises(InputError, match="expected one output a step"):
            replay_strip(**{**parts, "steps": (0, 10)})

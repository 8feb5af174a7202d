"""The figures that stand for the explorers of maps where no script runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.explorer_figures import location_panel, replay_strip, score_map_panel
from bckd.viz.picture_outputs import outputs_of_picture

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
    @pytest.mark.parametrize(("class_name", "stride"), [(None, None), ("square", 16)])
    def test_every_map_is_there(
        self, outputs: dict[str, DenseOutput], class_name: str | None, stride: int | None
    ) -> None:
        settings = {"class_name": class_name, "stride": stride}
        found = panels(score_map_panel(PICTURE, outputs, NAMES, TRUTH, image=1, **settings))
        pictured = outputs_of_picture(PICTURE, outputs, NAMES, 1)
        label, level = pictured.label(class_name), pictured.level(stride)
        gap = "$|p_t - p_s|$"
        for title, view in {
            "teacher, sigmoid score": ("score", "teacher", "sigmoid", label),
            "BCKD, softmax score": ("score", "BCKD", "softmax", label),
            f"softmax, {gap}, sigmoid": ("difference", "softmax", "sigmoid", label),
            f"BCKD, {gap}, softmax": ("difference", "BCKD", "softmax", label),
            "softmax, weight of L_loc": ("weight", "softmax"),
        }.items():
            (image,) = found[title].images
            assert np.array_equal(
                image.get_array(), pictured.over_picture(pictured.values(*view), level)
            )
            assert image.get_clim() == (0, 1)
        assert len(found["image and, ground truth"].patches) == 2  # one box, two lines
        assert not any(title.startswith("teacher, $") for title in found)

    def test_one_student_without_ground_truth(self, outputs: dict[str, DenseOutput]) -> None:
        pair = {name: outputs[name] for name in ("teacher", "BCKD")}
        found = panels(score_map_panel(PICTURE, pair, NAMES))
        assert "image" in found and "BCKD, weight of L_loc" in found

    def test_no_such_class_or_level(self, outputs: dict[str, DenseOutput]) -> None:
        with pytest.raises(InputError, match="no class 'oval'"):
            score_map_panel(PICTURE, outputs, NAMES, class_name="oval")
        with pytest.raises(InputError, match="no level of stride 64"):
            score_map_panel(PICTURE, outputs, NAMES, stride=64)


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
    def test_six_of_many_and_the_curves(self, dense_output: Callable[..., DenseOutput]) -> None:
        steps = list(range(10, 80, 10))
        outputs = [dense_output(seed) for seed in range(len(steps))]
        curves = {"AP": [(30, 0.2), (60, 0.3)], "loss": [(0, 2.0), (70, 1.0)]}
        found = panels(replay_strip(PICTURE, steps, outputs, curves, NAMES, class_name="circle"))
        shown = [title for title in found if title.startswith("step")]
        assert len(shown) == 6 and {"step 10", "step 70"} <= set(shown)
        scores = outputs[0].cls_logits[0, :, 0].detach().sigmoid()
        image = found["step 10"].images[0].get_array()
        assert image.max() == pytest.approx(scores.max().item(), abs=1e-3)
        line, marks = found["AP"].lines
        assert line.get_xydata().tolist() == [[30, 0.2], [60, 0.3]]
        assert marks.get_ydata()[-1] == 0.3 and 10 not in marks.get_xdata()

    def test_one_checkpoint_and_no_curve(self, dense_output: Callable[..., DenseOutput]) -> None:
        found = panels(replay_strip(PICTURE, [5], [dense_output()], {}, NAMES))
        assert "step 5" in found

    def test_no_run(self, dense_output: Callable[..., DenseOutput]) -> None:
        with pytest.raises(InputError, match="expected one output a step"):
            replay_strip(PICTURE, [5, 6], [dense_output()], {}, NAMES)

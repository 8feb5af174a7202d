"""Score maps over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bckd.models.detector import Detector
from bckd.reports.score_maps import overlay, score_map
from bckd.structures import DenseOutput
from bckd.viz.score_maps import score_map_grid

PICTURE = np.full((32, 40, 3), 128, dtype=np.uint8)


class TestScoreMap:
    @pytest.mark.parametrize("label", [None, 0, 2])
    def test_a_location_lands_in_its_cell(
        self, dense_output: Callable[..., DenseOutput], label: int | None
    ) -> None:
        output = dense_output()
        maps = score_map(output, 1, label)
        assert [tuple(level.shape) for level in maps] == [(4, 5), (2, 3)]
        scores = output.cls_logits[1].sigmoid()
        for a, (x, y) in enumerate(output.locations.centres.tolist()):
            stride = int(output.locations.strides[a])
            level = (8, 16).index(stride)
            expected = scores[a].max() if label is None else scores[a, label]
            assert maps[level][int(y // stride), int(x // stride)] == expected

    def test_of_the_locations_of_a_cell_the_highest_counts(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        """RetinaNet has nine anchors a cell."""
        output = tiny_detector(head="retinanet")(torch.randn(1, 3, 64, 64))
        fine = score_map(output, 0)[0]
        cells = output.cls_logits[0].sigmoid()[: 8 * 8 * 9].reshape(8, 8, -1)
        assert torch.equal(fine, cells.amax(dim=-1))

    @pytest.mark.parametrize(("image", "label"), [(2, None), (0, 3)])
    def test_no_such_image_or_class(
        self, dense_output: Callable[..., DenseOutput], image: int, label: int | None
    ) -> None:
        with pytest.raises(IndexError):
            score_map(dense_output(), image, label)


class TestOverlay:
    def test_highest_value_of_all_levels(self) -> None:
        fine = torch.tensor([[0.1, 0.9], [0.2, 0.3]])
        coarse = torch.tensor([[0.25]])
        found = overlay([fine, coarse], (4, 6))
        expected = np.repeat(np.repeat([[0.25, 0.9], [0.25, 0.3]], 2, axis=0), 3, axis=1)
        assert found == pytest.approx(expected)


class TestGrid:
    def test_panels(self, dense_output: Callable[..., DenseOutput]) -> None:
        outputs = {name: dense_output(seed) for seed, name in enumerate(("teacher", "one", "two"))}
        outputs = {n: replace(o, cls_logits=o.cls_logits.detach()) for n, o in outputs.items()}
        drawing = score_map_grid([PICTURE, PICTURE], outputs, "teacher")
        panels = [axes for axes in drawing.axes if axes.get_label() != "<colorbar>"]
        titles = [axes.get_title() for axes in panels]
        row = ["image", "teacher", "one", "two", "", "", "|one - teacher|", "|two - teacher|"]
        assert titles == 2 * row
        bars = [axes.get_xlabel() for axes in drawing.axes if axes.get_label() == "<colorbar>"]
        assert [bar.partition(",")[0] for bar in bars] == ["score", "difference of scores"]
        for axes in panels:
            if axes.get_title() in outputs or axes.get_title().startswith("|"):
                assert axes.images[0].get_clim() == (0, 1), "all panels share their scale"

    def test_a_difference_is_the_largest_gap_of_any_class(
        self, dense_output: Callable[..., DenseOutput]
    ) -> None:
        teacher = dense_output(num_images=1, shapes=((2, 2),), strides=(16,))
        teacher = replace(teacher, cls_logits=torch.zeros(1, 4, 3))
        logits = torch.zeros(1, 4, 3)
        logits[0, 1, 2], logits[0, 1, 0], logits[0, 2, 1] = -4.0, 1.0, 2.0
        drawing = score_map_grid(
            [PICTURE], {"t": teacher, "s": replace(teacher, cls_logits=logits)}, "t"
        )
        (panel,) = [axes for axes in drawing.axes if axes.get_title() == "|s - t|"]
        image = panel.images[0].get_array()
        corners = [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
        expected = (logits.sigmoid() - 0.5).abs().amax(-1)[0].tolist()
        assert corners == pytest.approx(expected)

    def test_one_detector_alone(self, dense_output: Callable[..., DenseOutput]) -> None:
        output = dense_output(num_images=1)
        output = replace(output, cls_logits=output.cls_logits.detach())
        drawing = score_map_grid([PICTURE], {"teacher": output}, "teacher")
        drawing.draw_without_rendering()
        assert not any(axes.get_title().startswith("|") for axes in drawing.axes)

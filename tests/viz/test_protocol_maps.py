"""Maps and histograms of the two protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, collate
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.structures import Batch, DenseOutput
from bckd.viz.pictures import pictures_of
from bckd.viz.protocol_maps import protocol_maps, top_maps

SIZE = ImageSize(48, 96, pad_multiple=96, centred=True)
TOPS = {
    "background": (np.array([0.3, 0.6], np.float16), np.array([0.01, 0.02], np.float16)),
    "between": (np.zeros(0, np.float16), np.zeros(0, np.float16)),
    "objects": (np.array([0.9, 0.95], np.float16), np.array([0.04, 0.8], np.float16)),
}


@pytest.fixture
def batch(custom_root: Path) -> Batch:
    annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
    data = CocoDataset(custom_root / "val", annotations, SIZE)
    return collate([data[0, index] for index in range(3)], SIZE)


class TestTopMaps:
    def test_a_location_lands_in_its_cell(self, dense_output: Callable[..., DenseOutput]) -> None:
        output = dense_output()
        softmax, sigmoid = top_maps(output, 1, stride=16)
        assert softmax.shape == sigmoid.shape == (2, 3)
        logits = output.cls_logits[1, 20:].reshape(2, 3, 3)
        assert torch.equal(softmax[1, 0], logits[1, 0].softmax(-1).max())
        assert torch.equal(sigmoid[0, 2], logits[0, 2].sigmoid().max())

    def test_of_several_anchors_the_highest(self, dense_output: Callable[..., DenseOutput]) -> None:
        output = dense_output(num_images=1, shapes=((2, 4),), strides=(8,))
        (level,) = output.locations.levels
        levels = (replace(level, width=2, per_cell=2),)
        pairs = replace(output, locations=replace(output.locations, levels=levels))
        for cell, location in zip(top_maps(pairs, 0, 8), top_maps(output, 0, 8), strict=True):
            assert torch.equal(cell, location.reshape(2, 2, 2).amax(-1))


class TestFigure:
    def test_panels(self, batch: Batch, tiny_detector: Callable[..., Detector]) -> None:
        with torch.no_grad():
            output = tiny_detector(("nut", "screw", "washer"))(batch.images)
        drawing = protocol_maps(pictures_of(batch), batch, output, 8, TOPS, (0.5, 0.05))
        drawing.draw_without_rendering()
        panels = [axes for axes in drawing.axes if axes.images]
        titles = [axes.get_title() for axes in panels]
        assert titles == 2 * ["image", "softmax", "sigmoid"] + 3 * [""]
        for number in range(3):
            _, *maps = panels[3 * number : 3 * number + 3]
            for panel, values in zip(maps, top_maps(output, number, 8), strict=True):
                (image,) = panel.images
                assert image.get_clim() == (0, 1), "all maps share their scale"
                assert np.array_equal(image.get_array(), values)
                assert image.get_extent() == [0, 96, 96, 0], "as the picture's pixels"
        assert len(panels[0].patches) == 2 * 2, "two boxes, each with its outline"

    def test_margins_are_cut_off(
        self, batch: Batch, tiny_detector: Callable[..., Detector]
    ) -> None:
        with torch.no_grad():
            output = tiny_detector(("nut", "screw", "washer"))(batch.images)
        drawing = protocol_maps(pictures_of(batch), batch, output, 8, TOPS, (0.5, 0.05))
        drawing.draw_without_rendering()
        (panel, *_) = (axes for axes in drawing.axes if axes.images)
        left, top, right, bottom = batch.frames[0].tolist()
        assert (right - left, bottom - top) == (75, 48)
        window = panel.images[0].get_clip_box().get_points()
        shown = panel.transData.inverted().transform(window)
        assert sorted(shown[:, 0]) == pytest.approx([left, right])
        assert sorted(shown[:, 1]) == pytest.approx([top, bottom])
        assert panel.get_xlim() == (left, right)
        assert np.ptp(panel.get_ylim()) == 75, "the panels are square"

    def test_histograms(self, batch: Batch, tiny_detector: Callable[..., Detector]) -> None:
        with torch.no_grad():
            output = tiny_detector(("nut", "screw", "washer"))(batch.images)
        drawing = protocol_maps(pictures_of(batch), batch, output, 8, TOPS, (0.5, 0.05))
        softmax, sigmoid = (axes for axes in drawing.axes if axes.get_xlabel().startswith("top"))
        assert [text.get_text() for text in softmax.get_legend().get_texts()] == [
            "background: 50.00% above 0.5",
            "objects: 100.00% above 0.5",
        ]
        assert [text.get_text() for text in sigmoid.get_legend().get_texts()] == [
            "background: 0.00% above 0.05",
            "objects: 50.00% above 0.05",
        ]
        for panel in (softmax, sigmoid):
            for stairs in panel.patches:
                values, edges, _ = stairs.get_data()
                assert values.sum() == pytest.approx(1)
                assert (edges[0], edges[-1]) == (0, 1) == panel.get_xlim()

    def test_one_image(self, batch: Batch, tiny_detector: Callable[..., Detector]) -> None:
        with torch.no_grad():
            output = tiny_detector(("nut", "screw", "washer"))(batch.images)
        drawing = protocol_maps(pictures_of(batch)[:1], batch, output, 16, TOPS, (0.5, 0.05))
        drawing.draw_without_rendering()
        assert sum(bool(axes.images) for axes in drawing.axes) == 3

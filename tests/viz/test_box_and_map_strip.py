"""Boxes beside score maps, several detectors in one row."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.patches import Rectangle

from bckd.structures import Detections, GroundTruth
from bckd.viz.box_and_map_strip import box_and_map_strip
from bckd.viz.style import SCORE_COLOURS

PICTURES = [np.full((40, 60, 3), shade, dtype=np.uint8) for shade in (90, 160)]
TRUTH = GroundTruth.from_lists(
    [torch.tensor([[5.0, 6, 25, 30]]), torch.zeros(0, 4)],
    [torch.tensor([1]), torch.zeros(0, dtype=torch.long)],
)
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
FOUND = Detections(
    torch.tensor([[4.0, 6, 25, 30], [0.0, 0, 9, 9]]), torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
)
MAPS = [np.linspace(0, top, 24).reshape(4, 6) for top in (0.5, 0.25)]


def test_a_row_a_picture_and_two_panels_a_detector() -> None:
    drawing = box_and_map_strip(
        PICTURES,
        TRUTH,
        {"teacher": [FOUND, NOTHING], "student": [NOTHING, FOUND]},
        {"teacher": MAPS, "student": MAPS[::-1]},
        ("cat", "dog"),
    )
    drawing.draw_without_rendering()
    *panels, bar = drawing.axes
    assert [x.get_title() for x in panels[:5]] == [
        "objects",
        "teacher",
        "its scores",
        "student",
        "its scores",
    ]
    edges = [sum(isinstance(patch, Rectangle) for patch in x.patches) for x in panels]
    # Each box has two outlines; padding of the ground truth and low scores have none.
    assert edges == [2, 2, 0, 0, 0, 0, 0, 0, 2, 0]
    maps = [panels[n].images[0] for n in (2, 4, 7, 9)]
    for shown, heat in zip(maps, (0, 1, 1, 0), strict=True):
        assert np.array_equal(shown.get_array(), MAPS[heat])
        assert shown.get_clim() == (0, 1) and shown.get_cmap() == SCORE_COLOURS
    assert bar.get_ylim() == (0, 1)
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog"]
    width, height = drawing.get_size_inches()
    assert width > height

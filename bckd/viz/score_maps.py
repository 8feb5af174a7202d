"""Score maps of several detectors, drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from bckd.reports.score_maps import as_maps, overlay, score_map
from bckd.structures import DenseOutput
from bckd.viz.style import DIFFERENCE_COLOURS, SCORE_COLOURS, Style, figure


def score_map_grid(
    pictures: Sequence[np.ndarray], outputs: dict[str, DenseOutput], reference: str
) -> Figure:
    """Score maps of several detectors, and below each picture their difference to one of them.

    All maps share the scale 0..1, so that detectors and pictures can be compared.

    Args:
        pictures: (H, W, 3) uint8, one for every image of the batch.
        outputs: by name, for the same batch.
        reference: the name that differences are taken to (the teacher).
    """
    names = list(outputs)
    rows = 2 if len(names) > 1 else 1  # without a second detector there is no difference
    height = 2.0 * rows * len(pictures) + 0.6 * rows
    drawing = figure(1.75 * (len(names) + 1), height)
    grid = drawing.subplots(rows * len(pictures), len(names) + 1, squeeze=False)
    scores = differences = None
    for number, picture in enumerate(pictures):
        size = picture.shape[:2]
        top, bottom = grid[rows * number], grid[rows * (number + 1) - 1]
        top[0].imshow(picture)
        top[0].set_title("image", fontsize=9)
        target = outputs[reference].cls_logits[number].sigmoid()
        for column, name in enumerate(names, 1):
            maps = score_map(outputs[name], number)
            scores = top[column].imshow(overlay(maps, size), cmap=SCORE_COLOURS, vmin=0, vmax=1)
            top[column].set_title(name, fontsize=9)
            if name == reference:
                continue
            gap = (outputs[name].cls_logits[number].sigmoid() - target).abs().amax(dim=-1)
            difference = overlay(as_maps(gap, outputs[name]), size)
            differences = bottom[column].imshow(difference, cmap=DIFFERENCE_COLOURS, vmin=0, vmax=1)
            bottom[column].set_title(f"|{name} - {reference}|", fontsize=7)
        for axes in (*top, *bottom):
            axes.set_axis_off()
    panels = grid.ravel().tolist()
    bars: Style = {"location": "bottom", "aspect": 50, "fraction": 0.03}
    assert scores is not None  # there is an image
    drawing.colorbar(scores, ax=panels, label="score, highest of all classes", **bars)
    if differences is not None:
        label = "difference of scores, largest of all classes"
        drawing.colorbar(differences, ax=panels, label=label, **bars)
    return drawing

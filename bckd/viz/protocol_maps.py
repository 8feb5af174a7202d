"""The two protocols over images: maps of the top values, and their histograms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from torch import Tensor

from bckd.evaluation.protocol_scores import Kind
from bckd.structures import Batch, DenseOutput
from bckd.viz.detections import draw_boxes
from bckd.viz.style import SCORE_COLOURS, Style, colour, figure

PROTOCOLS = ("softmax", "sigmoid")
VALUES = ("top softmax probability", "top sigmoid score")
KIND_COLOURS = {"background": colour(0), "between": "#8C8C8C", "objects": colour(5)}
BINS = 40  # of the histograms, from 0 to 1
WIDTH = 9.5  # inches, as the other figures


def top_maps(output: DenseOutput, image: int, stride: int) -> tuple[Tensor, Tensor]:
    """Highest softmax probability and sigmoid score at each cell of one level: two (H, W) maps.

    Of several anchors a cell the highest counts.

    Args:
        image: position in the batch.
        stride: of the level, in pixels.
    """
    levels = output.locations.levels
    place = [level.stride for level in levels].index(stride)
    logits = output.cls_logits[image].split(output.locations.counts)[place]
    shape = (levels[place].height, levels[place].width, -1)
    softmax, sigmoid = logits.softmax(dim=-1), logits.sigmoid()
    return tuple(x.amax(-1).reshape(shape).amax(-1).cpu() for x in (softmax, sigmoid))


def protocol_maps(
    pictures: Sequence[np.ndarray],
    batch: Batch,
    output: DenseOutput,
    stride: int,
    tops: dict[Kind, tuple[np.ndarray, np.ndarray]],
    thresholds: tuple[float, float],
) -> Figure:
    """Images with the maps of one level beside them; below, histograms of a data set.

    All maps share the scale 0..1.

    Args:
        pictures: (H, W, 3) uint8, one for every image of the batch.
        batch: what part of a picture is the image, and its annotated boxes.
        output: of the batch.
        stride: of the level, in pixels.
        tops: by kind of location, the highest softmax probability and sigmoid score of each.
        thresholds: of the two, marked in the histograms.
    """
    rows = -(-len(pictures) // 2)
    heights = (1.95 * rows + 0.75, 3.6)
    drawing = figure(WIDTH, sum(heights))
    above, below = drawing.subfigures(2, 1, height_ratios=heights, squeeze=False).flat
    _draw_maps(above, pictures, batch, output, stride)
    panels = below.subplots(1, 2, sharey=True)
    for index, (panel, threshold) in enumerate(zip(panels, thresholds, strict=True)):
        _draw_histogram(panel, {kind: x[index] for kind, x in tops.items()}, threshold)
        panel.set_xlabel(f"{VALUES[index]} of a location")
    panels[0].set_ylabel("share of the locations\nof a kind (log scale)")
    return drawing


def _draw_maps(
    drawing: SubFigure,
    pictures: Sequence[np.ndarray],
    batch: Batch,
    output: DenseOutput,
    stride: int,
) -> None:
    """Two images a row, each with its softmax map and its sigmoid map."""
    across = min(2, len(pictures))
    grid = drawing.subplots(-(-len(pictures) // across), 3 * across, squeeze=False)
    mappable = None
    for axes in grid.ravel():
        axes.set_axis_off()
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        panels = grid[row, 3 * column : 3 * column + 3]
        truth = batch.ground_truth
        real = truth.objects[number]
        draw_boxes(panels[0], picture, truth.boxes[number][real], truth.labels[number][real])
        for panel, values in zip(panels[1:], top_maps(output, number, stride), strict=True):
            height, width = (stride * side for side in values.shape)
            extent = (0, width, height, 0)  # a cell covers its pixels
            mappable = panel.imshow(
                values.numpy(), cmap=SCORE_COLOURS, vmin=0, vmax=1, extent=extent
            )
        for panel, title in zip(panels, ("image", *PROTOCOLS), strict=True):
            _crop(panel, batch.frames[number].tolist())
            panel.set_title(title if row == 0 else "", fontsize=9)
    bar: Style = {"location": "bottom", "aspect": 50, "fraction": 0.04}
    label = f"highest of all classes at stride {stride}: softmax probability or sigmoid score"
    assert mappable is not None  # there is an image
    drawing.colorbar(mappable, ax=grid.ravel().tolist(), label=label, **bar)


def _crop(panel: Axes, frame: list[int]) -> None:
    """Show what lies within `frame` alone, in the middle of a square."""
    left, top, right, bottom = frame
    x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    panel.set_xlim(x - half, x + half)
    panel.set_ylim(y + half, y - half)
    window = Rectangle((left, top), right - left, bottom - top, transform=panel.transData)
    for image in panel.images:
        image.set_clip_path(window)


def _draw_histogram(panel: Axes, values: dict[str, np.ndarray], threshold: float) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    for kind, found in values.items():
        if len(found):
            shares = np.histogram(found.astype(np.float32), edges)[0] / len(found)
            label = f"{kind}: {np.mean(found > threshold):.2%} above {threshold:g}"
            panel.stairs(shares, edges, color=KIND_COLOURS[kind], linewidth=1.6, label=label)
    panel.axvline(threshold, color="black", linestyle="--", linewidth=1)
    panel.set_yscale("log")
    panel.set_xlim(0, 1)
    panel.grid(alpha=0.3)
    # Above the panel: within it there is no corner that every histogram leaves free.
    panel.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)

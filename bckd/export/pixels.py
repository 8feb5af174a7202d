"""Preprocessing inside an ONNX file: pixels as they come, boxes in these pixels.

The steps are those of `bckd.datasets.preprocessing` and `bckd.normalisation`, as an ONNX graph
before the detector's, and the way back for the boxes, which comes after it. Sides are computed in
float64, as in Python, so that they are the same to the pixel. PyTorch resizes pixels of 8 bits
along rows first, to whole levels, and then along columns; so does the graph. On noise, the worst
case, nine of ten values or more are the same, and nearly all others next to them: PyTorch computes
in whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bckd.export.exportable import INPUTS, OUTPUTS
from bckd.image_size import ImageSize
from bckd.normalisation import Normalisation

if TYPE_CHECKING:  # not needed but for writing ONNX
    import onnx

PIXELS = "pixels"
_PREFIX = "pixels/"  # of inner names, that they be no names of the detector's

# ONNX's own textual form. A side is height and width. What no step computes is a constant.
_RESIZE = """
    given_sides = Shape <start: int = 1, end: int = 3> (pixels)
    sides = Cast <to: int = 11> (given_sides)
    longer = ReduceMax (sides)
    shorter = ReduceMin (sides)
    by_long = Div (long_side, longer)
    by_short = Div (short_side, shorter)
    scale = Min (by_long, by_short)
    scaled = Mul (sides, scale)
    raised = Add (scaled, half)
    whole = Cast <to: int = 7> (raised)
    frame_sides = Max (whole, one)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    values = Cast <to: int = 1> (planes)
    outer = Shape <start: int = 0, end: int = 3> (planes)
    frame_width = Gather <axis: int = 0> (frame_sides, one)
    wide = Concat <axis: int = 0> (outer, frame_width)
    across = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel">
        (values, , , wide)
    half_way = Round (across)
    channels = Shape <start: int = 0, end: int = 2> (planes)
    high = Concat <axis: int = 0> (channels, frame_sides)
    down = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel">
        (half_way, , , high)
    levels = Round (down)
    ordered = Gather <axis: int = 1> (levels, order)
    over = Add (frame_sides, multiple_less_one)
    times = Div (over, multiple)
    canvas = Mul (times, multiple)
    room = Sub (canvas, frame_sides)
    middle = Div (room, two)
    frame_start = Mul (middle, centred)
    frame_end = Sub (room, frame_start)
    pads = Concat <axis: int = 0> (none, frame_start, none, frame_end)
"""
_NORMALISE = """
    fractions = Div ({}, full)
    about_zero = Sub (fractions, mean)
    normal = Div (about_zero, deviation)
"""
_PAD = "    padded = Pad ({}, pads)"
_NAMED = """
    number = Shape <start: int = 0, end: int = 1> (pixels)
    shape = Concat <axis: int = 0> (number, two)
    images = Identity ({})
    sizes = Expand ({}, shape)
"""
_BACK = """
    start = Gather (frame_start, columns_rows)
    span = Gather (frame_sides, columns_rows)
    given = Gather (given_sides, columns_rows)
    first = Cast <to: int = 11> (start)
    length = Cast <to: int = 11> (span)
    sought = Cast <to: int = 11> (given)
    last = Add (first, length)
    exact = Cast <to: int = 11> (seen)
    clipped = Max (exact, first)
    inside = Min (clipped, last)
    moved = Sub (inside, first)
    ratio = Div (sought, length)
    larger = Mul (moved, ratio)
    boxes = Cast <to: int = 1> (larger)
"""


def from_pixels(graph: onnx.GraphProto, size: ImageSize, normalisation: Normalisation) -> None:
    """Put the preprocessing into a detector's graph, which is changed.

    Afterwards its one input is `pixels` (N, H, W, 3) uint8 RGB, and boxes are in these pixels.

    Args:
        graph: takes `INPUTS` and gives `OUTPUTS`, as `bckd.export.graphs` writes it.
        size: how the detector's images are brought to size.
        normalisation: what they go through.
    """
    from onnx import compose, numpy_helper, parser

    images, sizes = INPUTS
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    taken = f"uint8[{batch.dim_param or batch.dim_value}, height, width, 3] {PIXELS}"
    given = f"float[a, 3, b, c] {images}, int64[a, 2] {sizes}, float[d, 4] {OUTPUTS[0]}"
    steps = _steps(size.centred) + _BACK
    added = parser.parse_graph(f"added ({taken}, float[d, 4] seen) => ({given}) {{ {steps} }}")
    added.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in _constants(size, normalisation).items()
    )
    added = compose.add_prefix_graph(added, _PREFIX, rename_inputs=False, rename_outputs=False)
    middle = 1 + next(n for n, node in enumerate(added.node) if sizes in node.output)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["seen" if name == OUTPUTS[0] else name for name in names]
    nodes = [*added.node[:middle], *graph.node, *added.node[middle:]]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(added.input[0])
    graph.initializer.extend(added.initializer)


def _steps(centred: bool) -> str:
    """What comes before the detector."""
    if centred:  # black all around, and then normalised
        normalised = _PAD.format("ordered") + _NORMALISE.format("padded")
        return _RESIZE + normalised + _NAMED.format("normal", "canvas")
    normalised = _NORMALISE.format("ordered") + _PAD.format("normal")
    return _RESIZE + normalised + _NAMED.format("padded", "frame_sides")


def _constants(size: ImageSize, normalisation: Normalisation) -> dict[str, np.ndarray]:
    """The values that the steps name and don't compute."""
    whole = {
        "one": [1],
        "two": [2],
        "none": [0, 0],
        "multiple": [size.pad_multiple],
        "multiple_less_one": [size.pad_multiple - 1],
        "centred": [int(size.centred)],
        "order": [2, 1, 0] if normalisation.bgr else [0, 1, 2],
        "columns_rows": [1, 0, 1, 0],
    }
    exact = {"half": [0.5], "short_side": [size.short_side], "long_side": [size.long_side]}
    channels = {"mean": normalisation.mean, "deviation": normalisation.deviation}
    return {
        **{name: np.array(value, np.int64) for name, value in whole.items()},
        **{name: np.array(value, np.float64) for name, value in exact.items()},
        **{name: np.array(value, np.float32)[:, None, None] for name, value in channels.items()},
        "full": np.array(255, np.float32),
    }

"""Cluttered pictures of simple shapes, drawn from a seed.

A class is an outline (square, circle, triangle, ...) that is solid or has a hole.
Colour, texture, light and size say nothing about the class; strokes and blobs are
painted in the same way as the objects and are not objects.

The same seed gives the same pictures; another build of numpy or another processor
may move a value by one grey level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import Generator

Variant = Literal["standard", "twelve"]
Split = Literal["train", "val"]
Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[float, float, float, float]
Window = tuple[slice, slice]  # rows and columns of the image

GENERATOR_VERSION = 2  # raised whenever the same seed no longer gives the same files
IMAGE_SIZE = 128  # pixels, height and width
MAX_OBJECTS = 8
SIDES = (16.0, 76.0)  # least and greatest side of an object in pixels, log-uniform between
TAIL_RATIO = 5.0  # the most frequent class over the least frequent one
MIN_VISIBLE = 0.55  # least share of an object, and of its hole, left uncovered
MIN_RING_INRADIUS = 3.4  # pixels; below this neither hole nor wall would be seen
MIN_HOLE_INRADIUS = 1.9  # pixels
MIN_CONTRAST = 0.42  # between a shape's colour and the mean behind it, RGB in 0 to 1
MARGIN = 3  # pixels around a shape that its soft edge and its halo need

_OUTLINES = {
    "standard": ("square", "circle", "triangle"),
    "twelve": ("square", "circle", "triangle", "pentagon", "star", "cross"),
}
_TEXTURES = ("solid", "gradient", "stripes", "checks", "speckle", "clouds")
_PIXELS = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5  # pixel i spans i to i + 1


@dataclass(frozen=True)
class SceneObject:
    """One annotated object of a scene.

    Attributes:
        label: index into `class_names`.
        box: x1, y1, x2, y2 in pixels, of the full outline as if nothing covered
            it, cut at the image border.
        area: pixels of the shape (without its hole) that are seen.
    """

    label: int
    box: Box
    area: float


def class_names(variant: Variant = "standard") -> tuple[str, ...]:
    """Names of the six or twelve classes, from the most frequent to the least frequent."""
    return tuple(f"{outline} ring" if ring else outline for outline, ring in _classes(variant))


def class_frequencies(variant: Variant = "standard") -> Array:
    """(K,) share of each class among the objects drawn: geometric, `TAIL_RATIO` in all."""
    count = len(_classes(variant))
    weights = TAIL_RATIO ** (-np.arange(count) / (count - 1))
    return weights / weights.sum()


def _classes(variant: Variant) -> list[tuple[str, bool]]:
    """(outline, ring) of each class; solids and rings alternate, so both are in the tail."""
    first = [(outline, index % 2 == 1) for index, outline in enumerate(_OUTLINES[variant])]
    return first + [(outline, not ring) for outline, ring in first]


# Shapes: signed distances in pixels, negative inside.


@dataclass(frozen=True)
class _Shape:
    """A shape at its place: signed distances (H, W) of the pixels of a window."""

    window: Window
    distance: Array
    hole: Array | None = None  # signed distance of the hole alone


@cache
def _unit_outline(outline: str) -> Array:
    """(V, 2) corners of an outline about the origin, about 1 wide."""
    if outline == "cross":
        arm = np.array([[0.18, -0.5], [0.18, -0.18], [0.5, -0.18]])
        quarter_turn = np.array([[0, 1], [-1, 0]])
        return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])
    corners, radii = {
        "square": (4, (0.64,)),
        "circle": (24, (0.5,)),
        "triangle": (3, (0.64,)),
        "pentagon": (5, (0.54,)),
        "star": (10, (0.6, 0.29)),
    }[outline]
    angles = np.arange(corners) * (2 * math.pi / corners)
    return np.resize(radii, corners)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _object_points(rng: Generator, outline: str) -> Array:
    """(V, 2) corners of an object: random size, proportions, turn, corners and place."""
    points = _unit_outline(outline).copy()
    if outline != "circle":  # uneven corners would only make a circle rough
        points += rng.uniform(-0.03, 0.03, points.shape)
    turn, stretch_turn = rng.uniform(-math.pi, math.pi, 2)
    stretch = math.exp(rng.uniform(-0.14, 0.14))
    side = math.exp(rng.uniform(*np.log(SIDES)))
    points = points @ _rotation(stretch_turn) * (side * stretch, side / stretch) @ _rotation(turn)
    low, high = points.min(axis=0), points.max(axis=0)
    reach = 0.44 * (high - low)  # from the middle; up to 6 % of the box may leave the image
    place = rng.uniform(reach, IMAGE_SIZE - reach)
    return (points - (low + high) / 2 + place).astype(np.float32)


def _rotation(angle: float) -> Array:
    """(2, 2) rotation of row vectors."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


def _window(points: Array, margin: float) -> Window:
    """Rows and columns of the image within `margin` pixels of the points (V, 2)."""
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, IMAGE_SIZE - 2).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), low + 2, IMAGE_SIZE).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _segment_distance(starts: Array, ends: Array, window: Window) -> Array:
    """(H, W) distance from each pixel to the nearest of the segments (E, 2) to (E, 2)."""
    edge_x, edge_y = (ends - starts).T[:, :, None, None]
    to_x = _PIXELS[window[1]][None, None, :] - starts[:, 0, None, None]
    to_y = _PIXELS[window[0]][None, :, None] - starts[:, 1, None, None]
    length = np.maximum(edge_x**2 + edge_y**2, 1e-6)
    along = to_x * (edge_x / length) + to_y * (edge_y / length)  # (E, H, W)
    np.maximum(along, 0.0, out=along)
    np.minimum(along, 1.0, out=along)
    off_x, off_y = to_x - along * edge_x, to_y - along * edge_y
    off_x *= off_x
    off_y *= off_y
    off_x += off_y
    return np.sqrt(off_x.min(axis=0))


def _object_shape(points: Array, hole: float | None) -> _Shape | None:
    """The polygon (V, 2), with a hole of `hole` times its inradius; None if too small for it."""
    window = _window(points, MARGIN)
    ends = np.roll(points, -1, axis=0)
    distance = _segment_distance(points, ends, window)
    x, y = _PIXELS[window[1]], _PIXELS[window[0]]
    (x0, y0), (x1, y1) = points.T[:, :, None], ends.T[:, :, None]
    spans = (y0 <= y) != (y1 <= y)  # (V, H): the edge crosses the pixel's row
    slope = (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0)
    crossing = np.where(spans, x0 + (y - y0) * slope, -np.inf)  # (V, H)
    inside = np.logical_xor.reduce(crossing[:, :, None] > x, axis=0)
    distance = np.where(inside, -distance, distance)
    if hole is None:
        return _Shape(window, distance)
    inradius = -float(distance.min())
    if inradius < MIN_RING_INRADIUS:
        return None
    hole_distance = distance + inradius - max(hole * inradius, MIN_HOLE_INRADIUS)
    return _Shape(window, np.maximum(distance, -hole_distance), hole_distance)


def _stroke_shape(rng: Generator, widths: tuple[float, float]) -> _Shape:
    """A distractor: a curved line of one width, log-uniform between `widths` pixels."""
    start, bend, end = rng.uniform(0, IMAGE_SIZE, 2) + rng.uniform(-45, 45, (3, 2))
    t = np.linspace(0.0, 1.0, 9)[:, None]
    points = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).astype(np.float32)
    half_width = 0.5 * math.exp(rng.uniform(*np.log(widths)))
    window = _window(points, half_width + MARGIN)
    return _Shape(window, _segment_distance(points[:-1], points[1:], window) - half_width)


def _blob_shape(rng: Generator) -> _Shape:
    """A distractor: a spot with lobes strong enough that it is no circle."""
    radius = math.exp(rng.uniform(math.log(4.0), math.log(20.0)))
    centre = rng.uniform(0, IMAGE_SIZE, 2).astype(np.float32)
    window = _window(centre[None], 1.6 * radius + MARGIN)
    x = _PIXELS[window[1]][None, :] - centre[0]
    y = _PIXELS[window[0]][:, None] - centre[1]
    angle, reach = np.arctan2(y, x), np.float32(1.0)
    for lobes, strength in ((1, 0.1), (2, 0.28), (3, 0.24), (5, 0.1)):
        phase = rng.uniform(0, 2 * math.pi)
        reach = reach + strength * rng.uniform(0.6, 1.0) * np.cos(lobes * angle + phase)
    return _Shape(window, 0.8 * (np.hypot(x, y) - radius * reach))  # 0.8: the rim is slanted


# Paint: the canvas is float32 (3, 128, 128) in 0 to 1.


@cache
def _upsampling(cells: int) -> Array:
    """(128, cells) matrix that interpolates a grid of `cells` smoothly over the image."""
    position = _PIXELS * ((cells - 1) / IMAGE_SIZE)
    offset = np.abs(position[:, None] - np.arange(cells, dtype=np.float32))
    share = np.maximum(1.0 - offset, 0.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)


def _noise(rng: Generator, cells: int, tint: float) -> Array:
    """(3, 128, 128) smooth noise in -1 to 1, from grey (`tint` 0) to coloured (1)."""
    grid = (1 - tint) * rng.uniform(-1, 1, (1, cells, cells))
    grid = grid + tint * rng.uniform(-1, 1, (3, cells, cells))
    return _upsampling(cells) @ grid.astype(np.float32) @ _upsampling(cells).T


def _colour(rng: Generator) -> Array:
    """(3, 1, 1) RGB in 0 to 1: any hue, from muted to vivid, from dark to light."""
    hue, saturation, value = rng.random(3).tolist()
    saturation, value = 0.15 + 0.75 * saturation, 0.3 + 0.7 * value
    # How far each primary lies from the hue, around the circle of six sixths.
    away = [abs((6 * hue - primary + 3) % 6 - 3) for primary in (0, 2, 4)]
    rgb = [value * (1 - saturation * min(max(sixths - 1, 0), 1)) for sixths in away]
    return np.array(rgb, dtype=np.float32)[:, None, None]


def _background(rng: Generator) -> Array:
    """(3, 128, 128) smooth coloured noise of several scales."""
    canvas = np.tile(0.15 + 0.7 * _colour(rng), (IMAGE_SIZE, IMAGE_SIZE))
    strength, roughness = rng.uniform(0.1, 0.28), rng.uniform(0.4, 0.75)
    for octave, cells in enumerate((3, 6, 12, 24, 48)):
        canvas += strength * roughness**octave * _noise(rng, cells, rng.uniform(0.3, 1.0))
    return np.clip(canvas, 0.02, 0.98)


def _texture(rng: Generator, window: Window) -> Array:
    """(H, W), or (1, W) if all rows are alike: share of the second colour, in 0 to 1."""
    kind = _TEXTURES[rng.integers(len(_TEXTURES))]
    if kind == "speckle":
        height, width = (side.stop - side.start for side in window)
        dots = rng.random((height, width), dtype=np.float32) < 0.25
        return 0.8 * dots.astype(np.float32)
    if kind == "clouds":
        rows, columns = (_upsampling(24)[side] for side in window)
        return rows @ rng.random((24, 24), dtype=np.float32) @ columns.T
    y, x = _PIXELS[window[0]][:, None], _PIXELS[window[1]][None, :]
    if kind == "solid":
        return np.zeros_like(x)
    turn, phase = rng.uniform(0, 2 * math.pi, 2).tolist()  # Python floats keep float32
    rate = 2 * math.pi / rng.uniform(4.0, 9.0)
    u = x * math.cos(turn) + y * math.sin(turn)
    if kind == "gradient":
        return (u - u.min()) / np.ptp(u)
    if kind == "stripes":
        return np.clip(0.5 + 1.5 * np.sin(rate * u + phase), 0, 1)
    v = y * math.cos(turn) - x * math.sin(turn)  # checks
    return np.clip(0.5 + 2 * np.sin(rate * u + phase) * np.sin(rate * v + phase), 0, 1)


def _paint(rng: Generator, canvas: Array, shape: _Shape, light: float) -> None:
    """Paint a shape onto the canvas: halo, two colours, bevel, soft edge.

    Objects and distractors alike come through here, so that only outlines tell them
    apart. `light` is the direction of the light, in radians.
    """
    target, distance = canvas[:, *shape.window], shape.distance
    behind = target.mean(axis=(1, 2))
    base, tries = _colour(rng), 0
    while math.dist(base.ravel(), behind) < MIN_CONTRAST and tries < 8:
        base, tries = _colour(rng), tries + 1
    shift = rng.uniform(0.05, 0.3) * (_colour(rng) - base)
    colour = base + _texture(rng, shape.window) * shift  # (3, H or 1, W)

    # Where the surface rises towards the light it is brighter, most at the edge.
    facing = np.zeros_like(distance)
    facing[1:] += math.sin(light) * (distance[1:] - distance[:-1])
    facing[:, 1:] += math.cos(light) * (distance[:, 1:] - distance[:, :-1])
    facing *= np.exp(np.minimum(distance, 0) * (1 / rng.uniform(1.0, 4.0)))
    colour = colour * (1 + rng.uniform(0.0, 0.35) * facing)

    halo = np.exp(np.maximum(distance, 0) * (-1 / rng.uniform(0.8, 1.6)))
    target *= 1 - rng.uniform(0.0, 0.45) * halo
    alpha = rng.uniform(0.9, 1.0) * np.clip(0.5 - distance / rng.uniform(0.9, 1.8), 0, 1)
    colour -= target
    colour *= alpha
    target += colour


def _develop(rng: Generator, canvas: Array) -> Array:
    """uint8 (128, 128, 3) picture of the canvas: uneven light, slight blur, sensor noise."""
    across, down = rng.uniform(-0.22, 0.22, 2)
    position = _PIXELS / (IMAGE_SIZE / 2) - 1
    canvas = canvas * (1 + float(across) * position + float(down) * position[:, None])
    neighbours = np.eye(IMAGE_SIZE, k=1) + np.eye(IMAGE_SIZE, k=-1)
    blur = np.eye(IMAGE_SIZE) + rng.uniform(0.0, 0.3) * neighbours
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    grain = rng.random(canvas.shape, dtype=np.float32) - 0.5
    canvas = blur @ canvas @ blur.T + rng.uniform(0.02, 0.06) * grain
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()


@dataclass
class _Scene:
    """A picture in the making, and what of each object is still seen."""

    rng: Generator
    canvas: Array
    light: float
    objects: list[tuple[int, Box, Array]] = field(default_factory=list)  # label, box, seen
    # Seen pixels, (128, 128) bool, and their number at first, of each object and each hole.
    guarded: list[tuple[Array, int]] = field(default_factory=list)

    def paint(self, shape: _Shape) -> bool:
        """Paint over all that is there, unless an object or its hole would be hidden."""
        free = ~_mask(shape.window, shape.distance)
        if any(np.count_nonzero(seen & free) < MIN_VISIBLE * n for seen, n in self.guarded):
            return False
        for seen, _ in self.guarded:
            seen &= free
        _paint(self.rng, self.canvas, shape, self.light)
        return True

    def add_object(self, label: int, points: Array, shape: _Shape) -> bool:
        """Paint and annotate an object, unless it would hide another one."""
        if not self.paint(shape):
            return False
        masks = [_mask(shape.window, d) for d in (shape.distance, shape.hole) if d is not None]
        self.guarded += [(mask, int(np.count_nonzero(mask))) for mask in masks]
        corners = np.clip([points.min(axis=0), points.max(axis=0)], 0, IMAGE_SIZE)
        x1, y1, x2, y2 = (round(float(value), 2) for value in corners.ravel())
        self.objects.append((label, (x1, y1, x2, y2), masks[0]))
        return True


def _mask(window: Window, distance: Array) -> Array:
    """(128, 128) bool: the window's pixels of negative distance."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=bool)
    mask[window] = distance < 0
    return mask


def draw_scene(
    seed: int, index: int, split: Split = "train", variant: Variant = "standard"
) -> tuple[Array, list[SceneObject]]:
    """Draw one scene; it depends on the four arguments alone.

    Args:
        seed: of the whole data set, 0 or more.
        index: of the image in its split, 0 or more.

    Returns:
        The picture, uint8 RGB (128, 128, 3), and its 1 to 8 objects, from the back
        to the front.
    """
    key = [seed, index, get_args(Split).index(split), get_args(Variant).index(variant)]
    rng = np.random.default_rng(key)
    scene = _Scene(rng, _background(rng), light=rng.uniform(-math.pi, math.pi))
    for _ in range(rng.integers(1, 4)):
        scene.paint(_stroke_shape(rng, (1.2, 4.5) if rng.random() < 0.6 else (4.5, 13.0)))
    for _ in range(rng.integers(1, 4)):
        scene.paint(_blob_shape(rng))

    classes, frequencies = _classes(variant), class_frequencies(variant)
    for number in range(rng.integers(1, MAX_OBJECTS + 1)):
        label = int(rng.choice(len(classes), p=frequencies))
        outline, ring = classes[label]
        placed, tries = False, 0
        while not placed and (tries < 12 or number == 0):  # a full picture takes no more
            points = _object_points(rng, outline)
            shape = _object_shape(points, rng.uniform(0.4, 0.6) if ring else None)
            placed = shape is not None and scene.add_object(label, points, shape)
            tries += 1
    for _ in range(rng.integers(0, 2)):
        scene.paint(_stroke_shape(rng, (1.0, 2.2)))
    found = [SceneObject(label, box, float(seen.sum())) for label, box, seen in scene.objects]
    return _develop(rng, scene.canvas), found

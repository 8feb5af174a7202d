"""How a scene is painted: from its description, which holds every random choice, to its picture.

`scene_drawing` makes the choices. Nothing here is random, so that whoever has a description
can paint the same picture anew, or another one after changing it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Window = tuple[slice, slice]  # rows and columns of the image
TextureKind = Literal["solid", "gradient", "stripes", "checks", "speckle", "clouds"]

IMAGE_SIZE = 128  # pixels, height and width
MIN_RING_INRADIUS = 3.4  # pixels; below this neither hole nor wall would be seen
MIN_HOLE_INRADIUS = 1.9  # pixels
MARGIN = 3  # pixels around a shape that its soft edge and its halo need
CLOUD_CELLS = 24  # of the grid of clouds, along a side of the image

PIXELS = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5  # pixel i spans i to i + 1


# What is described. Colours are RGB in 0 to 1, shape (3, 1, 1); lengths are pixels.


@dataclass(frozen=True)
class Polygon:
    """A closed outline.

    Attributes:
        points: (V, 2) corners, x and y.
        hole: inradius of the hole over that of the outline; None where there is no hole.
    """

    points: Array
    hole: float | None = None


@dataclass(frozen=True)
class Stroke:
    """A curved line of one width; `points` (P, 2) lie on its middle."""

    points: Array
    half_width: float


@dataclass(frozen=True)
class Blob:
    """A spot with lobes.

    Attributes:
        centre: (2,) x and y.
        radius: without lobes.
        lobes: number around the spot, strength over the radius, phase in radians.
    """

    centre: Array
    radius: float
    lobes: tuple[tuple[int, float, float], ...]


Outline = Polygon | Stroke | Blob


@dataclass(frozen=True)
class Texture:
    """Where a shape has its second colour.

    Attributes:
        kind: stripes and checks have all of `turn` and `phase` (radians) and `rate` (radians a
            pixel), a gradient has `turn`.
        values: speckle: (H, W) bool of the shape's window; clouds: a (24, 24) grid over the image.
    """

    kind: TextureKind
    turn: float = 0.0
    phase: float = 0.0
    rate: float = 0.0
    values: Array | None = None


@dataclass(frozen=True)
class Paint:
    """How a shape looks.

    Attributes:
        base: first colour.
        shift: second colour minus the first.
        texture: where the second one is.
        bevel, bevel_depth: how much brighter a slope towards the light is, and how far inside.
        halo, halo_width: how much darker it is around the shape, and how far outside.
        opacity: in 0 to 1.
        edge: width over which the shape fades into what is behind it.
    """

    base: Array
    shift: Array
    texture: Texture
    bevel: float
    bevel_depth: float
    halo: float
    halo_width: float
    opacity: float
    edge: float


@dataclass(frozen=True)
class Layer:
    """One painted shape; `label` is its class index, or None: it is not annotated."""

    outline: Outline
    paint: Paint
    label: int | None = None


@dataclass(frozen=True)
class Background:
    """A colour and smooth noise: of each octave its strength and its (3, n, n) grid in -1 to 1."""

    colour: Array
    octaves: tuple[tuple[float, Array], ...]


@dataclass(frozen=True)
class Development:
    """From the canvas to a picture.

    Attributes:
        across, down: how much brighter the right and the lower border are than the middle.
        blur: weight of each neighbour over a pixel's own.
        grain: (3, 128, 128) sensor noise in 0 to 1.
        grain_strength: its range in the picture.
    """

    across: float
    down: float
    blur: float
    grain: Array
    grain_strength: float


@dataclass(frozen=True)
class SceneDescription:
    """All that decides a scene's picture; layers from the back to the front.

    `light` is the direction of the light, in radians.
    """

    background: Background
    layers: tuple[Layer, ...]
    light: float
    development: Development


def picture_of(scene: SceneDescription) -> Array:
    """The picture, uint8 RGB (128, 128, 3)."""
    canvas = background_canvas(scene.background)
    for layer in scene.layers:
        shape = shape_of(layer.outline)
        assert shape is not None  # else it would not have been described
        paint_shape(canvas, shape, layer.paint, scene.light)
    return developed(canvas, scene.development)


# Shapes: signed distances in pixels, negative inside.


@dataclass(frozen=True)
class Shape:
    """A shape at its place: signed distances (H, W) of the pixels of a window."""

    window: Window
    distance: Array
    hole: Array | None = None  # signed distance of the hole alone


def shape_of(outline: Outline) -> Shape | None:
    """The shape of an outline; None of a polygon that is too small for its hole."""
    if isinstance(outline, Polygon):
        return _polygon_shape(outline)
    return _stroke_shape(outline) if isinstance(outline, Stroke) else _blob_shape(outline)


def window_of(outline: Outline) -> Window:
    """Rows and columns of the image that painting the outline changes."""
    if isinstance(outline, Polygon):
        return _window(outline.points, MARGIN)
    if isinstance(outline, Stroke):
        return _window(outline.points, outline.half_width + MARGIN)
    return _window(outline.centre[None], 1.6 * outline.radius + MARGIN)


def _window(points: Array, margin: float) -> Window:
    """Rows and columns of the image within `margin` pixels of the points (V, 2)."""
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, IMAGE_SIZE - 2).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), low + 2, IMAGE_SIZE).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _segment_distance(starts: Array, ends: Array, window: Window) -> Array:
    """(H, W) distance from each pixel to the nearest of the segments (E, 2) to (E, 2)."""
    edge_x, edge_y = (ends - starts).T[:, :, None, None]
    to_x = PIXELS[window[1]][None, None, :] - starts[:, 0, None, None]
    to_y = PIXELS[window[0]][None, :, None] - starts[:, 1, None, None]
    length = np.maximum(edge_x**2 + edge_y**2, 1e-6)
    along = to_x * (edge_x / length) + to_y * (edge_y / length)  # (E, H, W)
    np.maximum(along, 0.0, out=along)
    np.minimum(along, 1.0, out=along)
    off_x, off_y = to_x - along * edge_x, to_y - along * edge_y
    off_x *= off_x
    off_y *= off_y
    off_x += off_y
    return np.sqrt(off_x.min(axis=0))


def _polygon_shape(outline: Polygon) -> Shape | None:
    points, window = outline.points, window_of(outline)
    ends = np.roll(points, -1, axis=0)
    distance = _segment_distance(points, ends, window)
    x, y = PIXELS[window[1]], PIXELS[window[0]]
    (x0, y0), (x1, y1) = points.T[:, :, None], ends.T[:, :, None]
    spans = (y0 <= y) != (y1 <= y)  # (V, H): the edge crosses the pixel's row
    slope = (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0)
    crossing = np.where(spans, x0 + (y - y0) * slope, -np.inf)  # (V, H)
    inside = np.logical_xor.reduce(crossing[:, :, None] > x, axis=0)
    distance = np.where(inside, -distance, distance)
    if outline.hole is None:
        return Shape(window, distance)
    inradius = -float(distance.min())
    if inradius < MIN_RING_INRADIUS:
        return None
    hole_distance = distance + inradius - max(outline.hole * inradius, MIN_HOLE_INRADIUS)
    return Shape(window, np.maximum(distance, -hole_distance), hole_distance)


def _stroke_shape(outline: Stroke) -> Shape:
    points, window = outline.points, window_of(outline)
    return Shape(window, _segment_distance(points[:-1], points[1:], window) - outline.half_width)


def _blob_shape(outline: Blob) -> Shape:
    centre, radius, window = outline.centre, outline.radius, window_of(outline)
    x = PIXELS[window[1]][None, :] - centre[0]
    y = PIXELS[window[0]][:, None] - centre[1]
    angle, reach = np.arctan2(y, x), np.float32(1.0)
    for lobes, strength, phase in outline.lobes:
        reach = reach + strength * np.cos(lobes * angle + phase)
    return Shape(window, 0.8 * (np.hypot(x, y) - radius * reach))  # 0.8: the rim is slanted


# Paint: the canvas is float32 (3, 128, 128) in 0 to 1.


@cache
def _upsampling(cells: int) -> Array:
    """(128, cells) matrix that interpolates a grid of `cells` smoothly over the image."""
    position = PIXELS * ((cells - 1) / IMAGE_SIZE)
    offset = np.abs(position[:, None] - np.arange(cells, dtype=np.float32))
    share = np.maximum(1.0 - offset, 0.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)


def background_canvas(background: Background) -> Array:
    """A new canvas of smooth coloured noise of several scales."""
    canvas = np.tile(background.colour, (IMAGE_SIZE, IMAGE_SIZE))
    for strength, grid in background.octaves:
        cells = grid.shape[-1]
        canvas += strength * (_upsampling(cells) @ grid @ _upsampling(cells).T)
    return np.clip(canvas, 0.02, 0.98)


def _second_colour(texture: Texture, window: Window) -> Array:
    """(H, W), or (1, W) if all rows are alike: share of the second colour, in 0 to 1."""
    if texture.kind == "speckle":
        assert texture.values is not None  # see `Texture`
        return 0.8 * texture.values.astype(np.float32)
    if texture.kind == "clouds":
        rows, columns = (_upsampling(CLOUD_CELLS)[side] for side in window)
        return rows @ texture.values @ columns.T
    y, x = PIXELS[window[0]][:, None], PIXELS[window[1]][None, :]
    if texture.kind == "solid":
        return np.zeros_like(x)
    cosine, sine = math.cos(texture.turn), math.sin(texture.turn)
    rate, phase = texture.rate, texture.phase
    u = x * cosine + y * sine
    if texture.kind == "gradient":
        return (u - u.min()) / np.ptp(u)
    if texture.kind == "stripes":
        return np.clip(0.5 + 1.5 * np.sin(rate * u + phase), 0, 1)
    v = y * cosine - x * sine  # checks
    return np.clip(0.5 + 2 * np.sin(rate * u + phase) * np.sin(rate * v + phase), 0, 1)


def paint_shape(canvas: Array, shape: Shape, paint: Paint, light: float) -> None:
    """Paint a shape onto the canvas: halo, two colours, bevel, soft edge.

    Objects and distractors alike come through here, so that only outlines tell them
    apart. `light` is the direction of the light, in radians.
    """
    target, distance = canvas[:, *shape.window], shape.distance
    colour = paint.base + _second_colour(paint.texture, shape.window) * paint.shift

    # Where the surface rises towards the light it is brighter, most at the edge.
    facing = np.zeros_like(distance)
    facing[1:] += math.sin(light) * (distance[1:] - distance[:-1])
    facing[:, 1:] += math.cos(light) * (distance[:, 1:] - distance[:, :-1])
    facing *= np.exp(np.minimum(distance, 0) * (1 / paint.bevel_depth))
    colour = colour * (1 + paint.bevel * facing)  # (3, H, W)

    target *= 1 - paint.halo * np.exp(np.maximum(distance, 0) * (-1 / paint.halo_width))
    alpha = paint.opacity * np.clip(0.5 - distance / paint.edge, 0, 1)
    colour -= target
    colour *= alpha
    target += colour


def developed(canvas: Array, development: Development) -> Array:
    """uint8 (128, 128, 3) picture of the canvas: uneven light, slight blur, sensor noise."""
    position = PIXELS / (IMAGE_SIZE / 2) - 1
    canvas = canvas * (1 + development.across * position + development.down * position[:, None])
    neighbours = np.eye(IMAGE_SIZE, k=1) + np.eye(IMAGE_SIZE, k=-1)
    blur = np.eye(IMAGE_SIZE) + development.blur * neighbours
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    grain = development.grain_strength * (development.grain - 0.5)
    canvas = blur @ canvas @ blur.T + grain
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()

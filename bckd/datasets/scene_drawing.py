"""Cluttered pictures of simple shapes, drawn from a seed: every random choice of a scene.

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
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator

from bckd.datasets.scene_painting import (
    CLOUD_CELLS,
    IMAGE_SIZE,
    Array,
    Background,
    Blob,
    Development,
    Layer,
    Outline,
    Paint,
    Polygon,
    SceneDescription,
    Shape,
    Stroke,
    Texture,
    TextureKind,
    Window,
    background_canvas,
    developed,
    paint_shape,
    shape_of,
)

Variant = Literal["standard", "twelve"]
Split = Literal["train", "val"]
Box = tuple[float, float, float, float]

GENERATOR_VERSION = 2  # raised whenever the same seed no longer gives the same files
MAX_OBJECTS = 8
SIDES = (16.0, 76.0)  # least and greatest side of an object in pixels, log-uniform between
TAIL_RATIO = 5.0  # the most frequent class over the least frequent one
MIN_VISIBLE = 0.55  # least share of an object, and of its hole, left uncovered
MIN_CONTRAST = 0.42  # between a shape's colour and the mean behind it, RGB in 0 to 1

_OUTLINES = {
    "standard": ("square", "circle", "triangle"),
    "twelve": ("square", "circle", "triangle", "pentagon", "star", "cross"),
}


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


# Outlines.


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


def unit_shape(label: int, variant: Variant = "standard") -> Polygon:
    """The outline of a class about the origin, about 1 wide, even; a ring's hole is half of it."""
    outline, ring = _classes(variant)[label]
    return Polygon(_unit_outline(outline), 0.5 if ring else None)


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


def _stroke(rng: Generator, widths: tuple[float, float]) -> Stroke:
    """A distractor: a curved line of one width, log-uniform between `widths` pixels."""
    start, bend, end = rng.uniform(0, IMAGE_SIZE, 2) + rng.uniform(-45, 45, (3, 2))
    t = np.linspace(0.0, 1.0, 9)[:, None]
    points = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).astype(np.float32)
    return Stroke(points, 0.5 * math.exp(rng.uniform(*np.log(widths))))


def _blob(rng: Generator) -> Blob:
    """A distractor: a spot with lobes strong enough that it is no circle."""
    radius = math.exp(rng.uniform(math.log(4.0), math.log(20.0)))
    centre = rng.uniform(0, IMAGE_SIZE, 2).astype(np.float32)
    lobes = []
    for number, strength in ((1, 0.1), (2, 0.28), (3, 0.24), (5, 0.1)):
        phase = rng.uniform(0, 2 * math.pi)
        lobes.append((number, strength * rng.uniform(0.6, 1.0), phase))
    return Blob(centre, radius, tuple(lobes))


# Colours and textures.


def _colour(rng: Generator) -> Array:
    """(3, 1, 1) RGB in 0 to 1: any hue, from muted to vivid, from dark to light."""
    hue, saturation, value = rng.random(3).tolist()
    saturation, value = 0.15 + 0.75 * saturation, 0.3 + 0.7 * value
    # How far each primary lies from the hue, around the circle of six sixths.
    away = [abs((6 * hue - primary + 3) % 6 - 3) for primary in (0, 2, 4)]
    rgb = [value * (1 - saturation * min(max(sixths - 1, 0), 1)) for sixths in away]
    return np.array(rgb, dtype=np.float32)[:, None, None]


def _noise(rng: Generator, cells: int, tint: float) -> Array:
    """(3, cells, cells) grid of noise in -1 to 1, from grey (`tint` 0) to coloured (1)."""
    grid = (1 - tint) * rng.uniform(-1, 1, (1, cells, cells))
    grid = grid + tint * rng.uniform(-1, 1, (3, cells, cells))
    return grid.astype(np.float32)


def _background(rng: Generator) -> Background:
    """Smooth coloured noise of several scales."""
    colour = 0.15 + 0.7 * _colour(rng)
    strength, roughness = rng.uniform(0.1, 0.28), rng.uniform(0.4, 0.75)
    octaves = [
        (strength * roughness**octave, _noise(rng, cells, rng.uniform(0.3, 1.0)))
        for octave, cells in enumerate((3, 6, 12, 24, 48))
    ]
    return Background(colour, tuple(octaves))


def _texture(rng: Generator, window: Window) -> Texture:
    kinds = get_args(TextureKind)
    kind: TextureKind = kinds[rng.integers(len(kinds))]
    if kind == "speckle":
        height, width = (side.stop - side.start for side in window)
        return Texture(kind, values=rng.random((height, width), dtype=np.float32) < 0.25)
    if kind == "clouds":
        return Texture(kind, values=rng.random((CLOUD_CELLS, CLOUD_CELLS), dtype=np.float32))
    if kind == "solid":
        return Texture(kind)
    turn, phase = rng.uniform(0, 2 * math.pi, 2).tolist()  # Python floats keep float32
    return Texture(kind, turn, phase, rate=2 * math.pi / rng.uniform(4.0, 9.0))


def _paint(rng: Generator, behind: Array, window: Window) -> Paint:
    """The look of a shape over a mean colour (3,) that it stands out from.

    Objects and distractors alike come through here, so that only outlines tell them apart.
    """
    base, tries = _colour(rng), 0
    while math.dist(base.ravel(), behind) < MIN_CONTRAST and tries < 8:
        base, tries = _colour(rng), tries + 1
    # Keyword arguments are evaluated in this order, which the seed's pictures hang on.
    return Paint(
        base=base,
        shift=rng.uniform(0.05, 0.3) * (_colour(rng) - base),
        texture=_texture(rng, window),
        bevel_depth=rng.uniform(1.0, 4.0),
        bevel=rng.uniform(0.0, 0.35),
        halo_width=rng.uniform(0.8, 1.6),
        halo=rng.uniform(0.0, 0.45),
        opacity=rng.uniform(0.9, 1.0),
        edge=rng.uniform(0.9, 1.8),
    )


def _development(rng: Generator) -> Development:
    across, down = rng.uniform(-0.22, 0.22, 2).tolist()
    return Development(
        across=across,
        down=down,
        blur=rng.uniform(0.0, 0.3),
        grain=rng.random((3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32),
        grain_strength=rng.uniform(0.02, 0.06),
    )


@dataclass
class _Scene:
    """A picture in the making, and what of each object is still seen."""

    rng: Generator
    background: Background
    light: float
    canvas: Array = field(init=False)
    layers: list[Layer] = field(default_factory=list)
    objects: list[tuple[int, Box, Array]] = field(default_factory=list)  # label, box, seen
    # Seen pixels, (128, 128) bool, and their number at first, of each object and each hole.
    guarded: list[tuple[Array, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.canvas = background_canvas(self.background)

    def add(self, outline: Outline, label: int | None = None) -> bool:
        """Paint over all that is there, unless it has no room or would hide an object.

        What has a label is annotated.
        """
        shape = shape_of(outline)
        if shape is None:
            return False
        free = ~_mask(shape.window, shape.distance)
        if self._hidden(free):
            return False
        for seen, _ in self.guarded:
            seen &= free
        behind = self.canvas[:, *shape.window].mean(axis=(1, 2))
        paint = _paint(self.rng, behind, shape.window)
        paint_shape(self.canvas, shape, paint, self.light)
        self.layers.append(Layer(outline, paint, label))
        if label is not None:
            assert isinstance(outline, Polygon)  # objects are
            self._annotate(label, outline.points, shape)
        return True

    def _hidden(self, free: Array) -> bool:
        """Whether too little of an object, or of its hole, is among the pixels left free."""
        return any(np.count_nonzero(seen & free) < MIN_VISIBLE * n for seen, n in self.guarded)

    def _annotate(self, label: int, points: Array, shape: Shape) -> None:
        masks = [_mask(shape.window, d) for d in (shape.distance, shape.hole) if d is not None]
        self.guarded += [(mask, int(np.count_nonzero(mask))) for mask in masks]
        corners = np.clip([points.min(axis=0), points.max(axis=0)], 0, IMAGE_SIZE)
        x1, y1, x2, y2 = (round(float(value), 2) for value in corners.ravel())
        self.objects.append((label, (x1, y1, x2, y2), masks[0]))


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
    scene = _composed(seed, index, split, variant)
    found = [SceneObject(label, box, float(seen.sum())) for label, box, seen in scene.objects]
    return developed(scene.canvas, _development(scene.rng)), found


def describe_scene(
    seed: int, index: int, split: Split = "train", variant: Variant = "standard"
) -> SceneDescription:
    """What `draw_scene` paints for the same arguments, to be changed and painted again."""
    scene = _composed(seed, index, split, variant)
    layers, development = tuple(scene.layers), _development(scene.rng)
    return SceneDescription(scene.background, layers, scene.light, development)


def _composed(seed: int, index: int, split: Split, variant: Variant) -> _Scene:
    """A scene with all that is painted, not yet developed."""
    key = [seed, index, get_args(Split).index(split), get_args(Variant).index(variant)]
    rng = np.random.default_rng(key)
    scene = _Scene(rng, _background(rng), light=rng.uniform(-math.pi, math.pi))
    for _ in range(rng.integers(1, 4)):
        scene.add(_stroke(rng, (1.2, 4.5) if rng.random() < 0.6 else (4.5, 13.0)))
    for _ in range(rng.integers(1, 4)):
        scene.add(_blob(rng))

    classes, frequencies = _classes(variant), class_frequencies(variant)
    for number in range(rng.integers(1, MAX_OBJECTS + 1)):
        label = int(rng.choice(len(classes), p=frequencies))
        outline, ring = classes[label]
        placed, tries = False, 0
        while not placed and (tries < 12 or number == 0):  # a full picture takes no more
            points = _object_points(rng, outline)
            hole = rng.uniform(0.4, 0.6) if ring else None
            placed = scene.add(Polygon(points, hole), label)
            tries += 1
    for _ in range(rng.integers(0, 2)):
        scene.add(_stroke(rng, (1.0, 2.2)))
    return scene

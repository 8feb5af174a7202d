"""A scene's description as a browser reads it (scene_drawing.js).

What a page may change, the items, is plain JSON; noise is sent apart, in arrays of few bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bckd.datasets.scene_painting import (
    Array,
    Layer,
    Outline,
    Paint,
    Polygon,
    SceneDescription,
    Stroke,
    Texture,
    window_of,
)

NOISE_UNITS = 32767  # of noise in -1 to 1, as int16
GRAIN_UNITS = 255  # of grain in 0 to 1, as uint8
CLOUD_UNITS = 65535  # of clouds in 0 to 1, as uint16
UNMOVED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Item = dict[str, Any]


def scene_data(scene: SceneDescription) -> dict[str, Any]:
    """What of a scene stays as it is: light, background, noise, and its textures' arrays.

    Noise is rounded to steps that are far below those of a picture: see the units above.
    """
    background, development = scene.background, scene.development
    return {
        "light": scene.light,
        "background": {
            "colour": _numbers(background.colour),
            "octaves": [
                {"strength": strength, "grid": np.round(grid * NOISE_UNITS).astype(np.int16)}
                for strength, grid in background.octaves
            ],
        },
        "development": {
            "across": development.across,
            "down": development.down,
            "blur": development.blur,
            "grain": np.round(development.grain * GRAIN_UNITS).astype(np.uint8),
            "grain_strength": development.grain_strength,
        },
        "textures": [
            _texture_array(layer.paint.texture, values)
            for layer in scene.layers
            if (values := layer.paint.texture.values) is not None
        ],
    }


def scene_items(scene: SceneDescription) -> list[Item]:
    """The layers from the back to the front, plain JSON.

    Each has the "label" (or None), an "outline", a "paint" and a "texture". Of the latter,
    "values" is the place of its array among the scene's, "corner" the left and top pixel of a
    speckle's, and "frame" the six numbers of the affine map from a pixel of the picture to the
    place in the texture that it shows: so a texture goes along when its shape is moved.
    """
    arrays = 0
    items = []
    for layer in scene.layers:
        has_array = layer.paint.texture.values is not None
        items.append(_item(layer, arrays if has_array else None))
        arrays += has_array
    return items


def _item(layer: Layer, array: int | None) -> Item:
    rows, columns = window_of(layer.outline)
    texture = layer.paint.texture
    names = ("kind", "turn", "phase", "rate")
    return {
        "label": layer.label,
        "outline": _outline(layer.outline),
        "paint": _paint(layer.paint),
        "texture": {name: getattr(texture, name) for name in names}
        | {"values": array, "corner": [int(columns.start), int(rows.start)], "frame": [*UNMOVED]},
    }


def _texture_array(texture: Texture, values: Array) -> Array:
    if texture.kind == "speckle":
        return values.astype(np.uint8)
    return np.round(values * CLOUD_UNITS).astype(np.uint16)


def _outline(outline: Outline) -> dict[str, Any]:
    if isinstance(outline, Polygon):
        return {"kind": "polygon", "points": outline.points.tolist(), "hole": outline.hole}
    if isinstance(outline, Stroke):
        points = outline.points.tolist()
        return {"kind": "stroke", "points": points, "half_width": outline.half_width}
    centre, lobes = outline.centre.tolist(), [list(lobe) for lobe in outline.lobes]
    return {"kind": "blob", "centre": centre, "radius": outline.radius, "lobes": lobes}


def _paint(paint: Paint) -> dict[str, Any]:
    names = ("bevel", "bevel_depth", "halo", "halo_width", "opacity", "edge")
    colours = {"base": _numbers(paint.base), "shift": _numbers(paint.shift)}
    return colours | {name: getattr(paint, name) for name in names}


def _numbers(values: Array) -> list[float]:
    return [float(value) for value in values.reshape(-1)]

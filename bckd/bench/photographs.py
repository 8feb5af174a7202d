"""Photographs that are drawn: noise with the spectrum of natural images, of COCO's shapes.

Neighbouring pixels are alike, and files are as large as COCO's: so they take as long to read and
to decode.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bckd.system.files import write_text

# Heights and widths in pixels, each as frequent as the like are in train2017.
COCO_SHAPES = (
    *[(480, 640)] * 12,
    *[(427, 640)] * 9,
    *[(640, 480)] * 5,
    *[(640, 427)] * 3,
    *[(375, 500)] * 2,
    (640, 640),
)
QUALITY = 90  # of the JPEG files
CONTRAST, COLOUR = 40.0, 8.0  # standard deviations of brightness and of its two colour channels
_OBJECTS = 7.3  # of an image of COCO, on average
_SMALLEST = 4  # pixels of a box's side


def write_photographs(
    folder: Path,
    annotations: Path,
    shapes: Sequence[tuple[int, int]],
    class_names: Sequence[str],
    seed: int = 0,
) -> None:
    """Draw a photograph of each shape, and write a COCO instances file with random boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shape in enumerate(shapes):
        pixels = draw(*shape, np.random.default_rng((seed, number)))
        Image.fromarray(pixels).save(folder / _file_name(number), quality=QUALITY)
    write_instances(annotations, shapes, class_names, seed)


def draw(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8 RGB."""
    planes = [_plane(height, width, rng) for _ in range(3)]
    scaled = [128 + by * x for by, x in zip((CONTRAST, COLOUR, COLOUR), planes, strict=True)]
    pixels = np.stack(scaled, axis=-1).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))


def _plane(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency as 1 / f; of mean 0 and deviation 1."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    phases = rng.uniform(0, 2 * np.pi, frequency.shape)
    plane: np.ndarray = np.fft.irfft2(np.exp(1j * phases) / frequency, (height, width))
    return (plane - plane.mean()) / plane.std()


def write_instances(
    path: Path, shapes: Sequence[tuple[int, int]], class_names: Sequence[str], seed: int = 0
) -> None:
    """Write a COCO instances file of images of these shapes, each with at least one box."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, shape in enumerate(shapes):
        images.append(entry_of_an_image(number, shape))
        for box in boxes_of_an_image(*shape, rng):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": len(annotations) % len(class_names) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": n, "name": name} for n, name in enumerate(class_names, 1)]
    content: dict[str, Any] = {"images": images, "annotations": annotations}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**content, "categories": categories}))


def entry_of_an_image(number: int, shape: tuple[int, int]) -> dict[str, Any]:
    """What an instances file says of the photograph of this number, from 0."""
    entry = {"id": number + 1, "file_name": _file_name(number)}
    return {**entry, "height": shape[0], "width": shape[1]}


def boxes_of_an_image(height: int, width: int, rng: np.random.Generator) -> list[list[int]]:
    """xywh in pixels, as many as COCO's images have: most small, a few nearly fill the image."""
    count = rng.geometric(1 / _OBJECTS)
    limits = np.array([width, height])
    sides = limits * rng.random((count, 1)) ** 2.5 * rng.uniform(0.5, 1.5, (count, 2))
    sides = sides.clip(_SMALLEST, 0.9 * limits).astype(int)
    corners = ((limits - sides) * rng.random((count, 2))).astype(int)
    return np.concatenate([corners, sides], axis=1).tolist()


def _file_name(number: int) -> str:
    return f"{number + 1:012d}.jpg"

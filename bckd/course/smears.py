"""Pictures like those of a blood smear, and their boxes as a labelling tool exports them.

They are drawn, from a seed, so that the course has a task of the usual kind: many objects of one
class, few of another, small ones of a third, and labels with the usual mistakes. Nothing that is
learnt from them holds for blood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from bckd.system.files import write_json

WIDTH, HEIGHT = 320, 240  # pixels
RADII = {"red cell": (13.0, 18.0), "white cell": (24.0, 32.0), "platelet": (3.0, 6.0)}  # pixels
SEEDS = {"train": range(160), "val": range(1000, 1079)}
TWICE = 3  # seed of a picture of train that is also put into val, by mistake
_ROWS, _COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5
_LILAC, _PURPLE, _ROSE = ((0.75, 0.68, 0.9), (0.42, 0.25, 0.6), (0.85, 0.55, 0.55))
_GREY = (0.45, 0.4, 0.4)

Colour = tuple[float, float, float]  # what is left of red, green and blue behind it
Bbox = list[float]  # x, y, width, height


class Ellipse(NamedTuple):
    """Where something is painted: its middle, its shorter half axis, and the longer one."""

    x: float
    y: float
    radius: float
    stretch: float = 1.0
    angle: float = 0.0

    def bbox(self) -> Bbox:
        """The box around what of it lies in the picture."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        width = self.radius * np.hypot(self.stretch * cos, sin)
        height = self.radius * np.hypot(self.stretch * sin, cos)
        left, top = max(self.x - width, 0), max(self.y - height, 0)
        right, bottom = min(self.x + width, WIDTH), min(self.y + height, HEIGHT)
        return [round(float(x), 1) for x in (left, top, right - left, bottom - top)]

    def window(self) -> tuple[slice, slice]:
        """The rows and columns that it may touch."""
        reach = self.radius * self.stretch + 1
        rows, columns = (
            slice(max(int(middle - reach), 0), int(middle + reach) + 1)
            for middle in (self.y, self.x)
        )
        return rows, columns

    def depth(self) -> np.ndarray:
        """About how many pixels each pixel of the window lies within the edge; below 0 outside."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        right, down = _COLUMNS[self.window()] - self.x, _ROWS[self.window()] - self.y
        along = (right * cos + down * sin) / self.stretch
        depth: np.ndarray = self.radius - np.hypot(along, down * cos - right * sin)
        return depth

    def paint(self, canvas: np.ndarray, colour: Colour, strength: Any = 1.0) -> None:
        """Lay a coloured glass on the canvas (H, W, 3), of a strength for all or each pixel."""
        share = (self.depth() + 0.5).clip(0, 1) * strength
        canvas[self.window()] *= 1 - share[..., None] * (1 - np.array(colour))


def draw_smear(seed: int) -> tuple[Image.Image, list[tuple[str, Bbox]]]:
    """A picture of WIDTH by HEIGHT pixels, and its cells, each with its class and box."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(-0.05, 0.05, 2)
    light = rng.uniform(0.8, 0.9) + slope[0] * _COLUMNS / WIDTH + slope[1] * _ROWS / HEIGHT
    canvas = light[..., None] * (np.array([1.0, 0.96, 0.92]) + rng.uniform(-0.03, 0.03, 3))
    stain = rng.uniform(0.75, 1.15)
    cells = []
    for name, x, y in _places(rng):
        place = Ellipse(x, y, rng.uniform(*RADII[name]), rng.uniform(1, 1.25), rng.uniform(0, 3))
        _PAINTED[name](canvas, place, stain, rng)
        cells.append((name, place.bbox()))
    for _ in range(rng.integers(2, 7)):  # dust, which is no platelet
        speck = Ellipse(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(0.8, 1.8))
        speck.paint(canvas, _GREY)
    canvas += rng.normal(0, 0.012, canvas.shape)
    picture = Image.fromarray((255 * canvas).clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1))), cells


def _places(rng: Generator) -> Iterator[tuple[str, float, float]]:
    """Classes and middles, in the order of painting; cells may touch and overlap a little."""
    drawn = (rng.integers(8, 16), rng.choice(3, p=[0.3, 0.5, 0.2]), rng.integers(1, 6))
    counts = [int(count) for count in drawn]
    taken: list[tuple[float, float, float]] = []
    for name, count in zip(RADII, counts, strict=True):
        room = 0.8 * RADII[name][1]
        for _ in range(20 * count):
            x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
            if all(np.hypot(x - a, y - b) > room + other for a, b, other in taken):
                taken.append((x, y, room))
                yield name, x, y
                count -= 1
            if not count:
                break


def _red_cell(canvas: np.ndarray, place: Ellipse, stain: float, rng: Generator) -> None:
    """A disc that is paler in its middle."""
    inner = ((place.depth() / place.radius - 0.3) / 0.5).clip(0, 1)
    place.paint(canvas, _ROSE, stain * (0.75 - 0.5 * inner))


def _white_cell(canvas: np.ndarray, place: Ellipse, stain: float, rng: Generator) -> None:
    """A pale body and a dark nucleus of some lobes."""
    place.paint(canvas, _LILAC, 0.5 * stain)
    for turn in np.arange(rng.integers(2, 5)) * 1.7 + place.angle:
        away = 0.38 * place.radius
        x, y = place.x + away * np.cos(turn), place.y + away * np.sin(turn)
        Ellipse(x, y, 0.42 * place.radius, 1.2, turn).paint(canvas, _PURPLE, 0.7 * stain)


def _platelet(canvas: np.ndarray, place: Ellipse, stain: float, rng: Generator) -> None:
    place.paint(canvas, _PURPLE, rng.uniform(0.4, 0.7) * stain)


_PAINTED = {"red cell": _red_cell, "white cell": _white_cell, "platelet": _platelet}


def write_export(root: Path, spoilt: bool = True) -> None:
    """Write pictures and boxes as CVAT lays out COCO's format.

    Args:
        root: an empty folder.
        spoilt: with what goes wrong in labelling. In train five boxes were dragged beyond their
            pictures, three have no width (a click), and twelve ids are there twice (two tasks
            were joined). In val a script wrote corners in place of sides, a class is spelt with
            a capital letter, and the last picture is one of train.
    """
    for part, seeds in SEEDS.items():
        folder = root / "images" / part
        folder.mkdir(parents=True)
        content = _written(folder, (*seeds, TWICE) if spoilt and part == "val" else seeds)
        if spoilt:
            _SPOILT[part](content)
        write_json(root / "annotations" / f"instances_{part}.json", content)


def _written(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Write pictures; the content of their annotation file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds, 1):
        picture, cells = draw_smear(seed)
        name = f"{folder.name}_{number:03}.jpg"
        picture.save(folder / name, quality=92)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for class_name, bbox in cells:
            category = list(RADII).index(class_name) + 1
            annotations.append(_row(len(annotations) + 1, number, category, bbox))
    categories = [{"id": n, "name": name} for n, name in enumerate(RADII, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _row(identity: int, image: int, category: int, bbox: Bbox) -> dict[str, Any]:
    row = {"id": identity, "image_id": image, "category_id": category, "bbox": bbox}
    return {**row, "area": round(bbox[2] * bbox[3], 2), "iscrowd": 0}


def _spoil_train(content: dict[str, Any]) -> None:
    rows = content["annotations"]
    at_left = [row for row in rows if row["bbox"][0] == 0]
    for row in at_left[:5]:
        _, y, width, height = row["bbox"]
        row.update(_row(row["id"], row["image_id"], row["category_id"], [-4, y, width + 4, height]))
    for row in rows[100:400:100]:
        x, y, *_ = row["bbox"]
        rows.append(_row(len(rows) + 1, row["image_id"], row["category_id"], [x, y, 0, 0]))
    for number, row in enumerate(rows[-12:], 1):
        row["id"] = number


def _spoil_val(content: dict[str, Any]) -> None:
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, round(x + width, 1), round(y + height, 1)]
    content["categories"][2]["name"] = "Platelet"


_SPOILT = {"train": _spoil_train, "val": _spoil_val}

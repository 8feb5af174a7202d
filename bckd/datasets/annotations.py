"""A COCO instances file, read and checked once, before anything depends on it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor

from bckd.errors import InputError

OUTSIDE_TOLERANCE = 2.0  # pixels by which a box may reach beyond its image; it is clipped


@dataclass(frozen=True)
class ImageEntry:
    """One image of the file: id, file name below the image folder, size in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class Objects:
    """Annotated boxes of one image: boxes (G, 4) xyxy pixels, labels (G,), crowd (G,) bool."""

    boxes: Tensor
    labels: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class Annotations:
    """A checked COCO instances file.

    Attributes:
        path: the file.
        images: in the order of their ids.
        class_names: the K names, in the order of the category ids.
        category_ids: the K ids; label k of the detector is category_ids[k].
        objects: boxes to learn by image id, only for images that have any: those of at least
            one pixel both ways and of an area (see `_learnable`), and crowd regions.
        content: what pycocotools needs, with `area` and `iscrowd` filled in.
        too_small: how many boxes of the file are not to learn, below a pixel or of no area.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    objects: dict[int, Objects] = field(repr=False)
    content: dict[str, Any] = field(repr=False)
    too_small: int = 0

    def objects_of(self, image_id: int) -> Objects:
        """The boxes of an image; none is a valid answer."""
        none = Objects(
            torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool)
        )
        return self.objects.get(image_id, none)

    def first(self, count: int | None) -> Annotations:
        """The same file, restricted to its first `count` images by id."""
        if count is None or count >= len(self.images):
            return self
        images = self.images[:count]
        kept = {image.id for image in images}
        content = dict(self.content)
        content["images"] = [entry for entry in content["images"] if entry["id"] in kept]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        objects = {key: value for key, value in self.objects.items() if key in kept}
        learnt = sum(len(value.labels) for value in objects.values())
        too_small = len(content["annotations"]) - learnt
        return replace(self, images=images, objects=objects, content=content, too_small=too_small)

    def to_pycocotools(self) -> COCO:
        """The file as pycocotools' index (which prints while it works; we keep it quiet)."""
        coco = COCO()
        coco.dataset = self.content
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco


def read_annotations(path: Path) -> Annotations:
    """Read a COCO instances JSON file and check it.

    Fields that pycocotools needs and small data sets often lack are filled in:
    `area` (width times height of the box) and `iscrowd` (0). In `content` the
    annotations' ids count from 1.

    Raises:
        InputError: the file is absent, no JSON, lacks a field, names a category or
            an image that is not listed, or a box is malformed or reaches more than
            2 pixels beyond its image.
    """
    content = _load(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise InputError(f"{path}: field '{key}' is missing or no list; expected COCO format")
    images = {entry.id: entry for entry in (_image(path, raw) for raw in content["images"])}
    if len(images) != len(content["images"]):
        raise InputError(f"{path}: two images have the same id")
    categories = sorted(_category(path, raw) for raw in content["categories"])
    if not images or not categories:
        raise InputError(f"{path}: no {'categories' if images else 'images'} listed")
    if len({identity for identity, _ in categories}) != len(categories):
        raise InputError(f"{path}: two categories have the same id")
    label_of = {identity: label for label, (identity, _) in enumerate(categories)}
    cleaned, rows, seen, too_small = [], {}, set(), 0
    for number, raw in enumerate(content["annotations"], 1):
        annotation, box = _annotation(path, number, raw, images, label_of)
        if raw.get("id") is not None:
            if raw["id"] in seen:
                raise InputError(f"{path}: two annotations have the id {raw['id']}")
            seen.add(raw["id"])
        cleaned.append(annotation)
        if not _learnable(annotation, box):
            too_small += 1
        else:
            row = (box, label_of[annotation["category_id"]], bool(annotation["iscrowd"]))
            rows.setdefault(annotation["image_id"], []).append(row)
    return Annotations(
        path=path,
        images=tuple(images[key] for key in sorted(images)),
        class_names=tuple(name for _, name in categories),
        category_ids=tuple(identity for identity, _ in categories),
        objects={key: _stack(value) for key, value in rows.items()},
        content={"info": {}, "licenses": [], **content, "annotations": cleaned},
        too_small=too_small,
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"annotation file {path} does not exist")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"annotation file {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"annotation file {path} holds no object; expected COCO format")
    return content


def _image(path: Path, raw: Any) -> ImageEntry:
    try:
        entry = ImageEntry(raw["id"], raw["file_name"], int(raw["width"]), int(raw["height"]))
        _whole(entry.id)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: image entry {str(raw)[:80]} needs a whole id, file_name, width and height"
        ) from error
    if not isinstance(entry.file_name, str):
        raise InputError(f"{path}: image {entry.id} has file_name {entry.file_name!r}, no text")
    if entry.width < 1 or entry.height < 1:
        raise InputError(f"{path}: image {entry.file_name} has size {entry.width}x{entry.height}")
    return entry


def _category(path: Path, raw: Any) -> tuple[int, str]:
    try:
        identity, name = _whole(raw["id"]), raw["name"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: category {str(raw)[:80]} needs a whole id and a name") from error
    if not isinstance(name, str):
        raise InputError(f"{path}: category {identity} has name {name!r}, no text")
    return identity, name


def _annotation(
    path: Path,
    number: int,
    raw: Any,
    images: dict[int, ImageEntry],
    label_of: dict[int, int],
) -> tuple[dict[str, Any], list[float]]:
    """A cleaned annotation and its box as xyxy, clipped to the image."""
    try:
        image_id, category = raw["image_id"], raw["category_id"]
        x, y, width, height = map(float, _list(raw["bbox"]))
        area = width * height if raw.get("area") is None else float(raw["area"])
        crowd = int(raw.get("iscrowd") or 0)
        hash((image_id, category, raw.get("id")))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: annotation {number} needs image_id, category_id and a bbox of four numbers "
            f"[x, y, width, height]; area and iscrowd, where given, are numbers"
        ) from error
    name = f"{path}: annotation {raw.get('id', number)}"
    if image_id not in images:
        raise InputError(f"{name} names image_id {image_id!r}, which 'images' does not list")
    if category not in label_of:
        raise InputError(f"{name} names category_id {category!r}, which 'categories' does not list")
    image = images[image_id]
    reach = max(-x, -y, x + width - image.width, y + height - image.height)
    finite = all(map(math.isfinite, (x, y, width, height)))
    if not finite or reach > OUTSIDE_TOLERANCE or width < 0 or height < 0:
        turned = max(-x, -y, x + width - image.height, y + height - image.width)
        hint = "; it would fit a turned image: sizes are those after its EXIF orientation"
        raise InputError(
            f"{name} has bbox [{x:g}, {y:g}, {width:g}, {height:g}] outside its image "
            f"{image.file_name} of {image.width}x{image.height} pixels (expected "
            f"x, y, width, height in pixels{hint if turned <= OUTSIDE_TOLERANCE else ''})"
        )
    box = [max(x, 0.0), max(y, 0.0), min(x + width, image.width), min(y + height, image.height)]
    # Ids count from 1: pycocotools takes a match with id 0 for none.
    return {**raw, "id": number, "area": area, "iscrowd": crowd}, box


def _learnable(annotation: dict[str, Any], box: list[float]) -> bool:
    """Whether training takes the box (mmdetection 2.28 `datasets/coco.py`, `_parse_ann_info`)."""
    _, _, width, height = annotation["bbox"]
    left, top, right, bottom = box  # what of it lies in the image
    inside = right > left and bottom > top
    return inside and annotation["area"] > 0 and width >= 1 and height >= 1


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("no whole number")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _stack(rows: list[tuple[list[float], int, bool]]) -> Objects:
    boxes, labels, crowd = zip(*rows, strict=True)
    return Objects(torch.tensor(boxes), torch.tensor(labels), torch.tensor(crowd))

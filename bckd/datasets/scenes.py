"""The embedded benchmark "scenes" on disk: an ordinary COCO data set.

The reader, trainer and evaluation of COCO serve it unchanged; `scene_drawing` draws it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image
from tqdm.auto import tqdm

from bckd.datasets.scene_drawing import (
    GENERATOR_VERSION,
    SceneObject,
    Split,
    Variant,
    class_names,
    draw_scene,
)
from bckd.system.errors import InputError
from bckd.system.files import one_maker, read_json, whole_folder, write_json, write_text, writing
from bckd.system.values import Count, Seed, checked, to_plain

# Run lengths alone: on such noisy pictures faster than the full search, and smaller.
_PNG: dict[str, Any] = {"compress_level": 1, "compress_type": zlib.Z_RLE}


@dataclass(frozen=True)
class _Record:
    """What decides every pixel of a data set; its `scenes.json`."""

    generator_version: int
    seed: Seed
    variant: Variant
    train: Count
    val: Count


def write_scenes(
    root: Path | str,
    train: int = 2000,
    val: int = 400,
    seed: int = 0,
    variant: Variant = "standard",
    progress: bool = True,
) -> None:
    """Write the benchmark as a COCO data set, unless it is there already.

    `root` then holds train/000001.png and so on, val/ alike, and under annotations/
    instances_train.json and instances_val.json with all classes, and for the same pictures
    instances_train_one.json and instances_val_one.json with the single class "object",
    instances_train_four.json and instances_val_four.json with the four most frequent
    classes: shapes of the others, which look alike, are seen but not labelled.
    An annotation's area is the number of seen pixels of the shape. All is written in a
    folder beside `root` that takes its name once complete, so that an interrupted run
    leaves no half data set.

    Args:
        train, val: number of pictures of each split.
        progress: show a bar.

    Raises:
        InputError: if a value is out of range, `root` holds something else or can't be written
            to, or another process writes it.
    """
    root = Path(root)
    record = checked(_Record(GENERATOR_VERSION, seed, variant, train, val))
    place = Path(os.path.realpath(root))  # a link is followed
    if _already_there(root, record):
        return
    if not place.name:
        raise InputError(f"{root} can't be written: it is the whole disk; name a folder in it")
    with one_maker(place):
        if _already_there(root, record):  # another process was quicker
            return
        with writing(root):
            _write(place, record, progress)


def _write(root: Path, record: _Record, progress: bool) -> None:
    """Draw all beside `root`, then give it its name."""
    with whole_folder(root) as partial:
        (partial / "annotations").mkdir()
        total = record.train + record.val
        with tqdm(total=total, desc="drawing scenes", disable=not progress) as bar:
            for split in get_args(Split):
                _write_split(partial, split, record, bar.update)
        write_json(partial / "scenes.json", to_plain(record))


def _already_there(root: Path, record: _Record) -> bool:
    """Whether `root` holds this very data set; False if there is nothing at all."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = read_json(root / "scenes.json")
    except InputError:
        found = "something else"
    if found != (wanted := to_plain(record)):
        raise InputError(
            f"{root}: expected no such folder or scenes of {wanted}, "
            f"found {found}; delete the folder to have them drawn anew"
        )
    return True


def _write_split(root: Path, split: Split, record: _Record, advance: Callable[[], object]) -> None:
    """Draw the pictures of one split and write them with their annotation files."""
    (root / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, getattr(record, split) + 1):
        picture, objects = draw_scene(record.seed, image_id - 1, split, record.variant)
        name = f"{image_id:06d}.png"
        Image.fromarray(picture).save(root / split / name, **_PNG)
        height, width, _ = picture.shape
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        annotations += [
            _annotation(item, len(annotations) + number, image_id)
            for number, item in enumerate(objects, start=1)
        ]
        advance()
    info = {
        "description": f"bckd scenes, {split}",
        "version": GENERATOR_VERSION,
        "seed": record.seed,
        "variant": record.variant,
    }
    content = {"info": info, "licenses": [], "images": images}
    for suffix, names, rows in _labellings(class_names(record.variant), annotations):
        categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
        path = root / "annotations" / f"instances_{split}{suffix}.json"
        write_text(path, json.dumps({**content, "annotations": rows, "categories": categories}))


def _annotation(item: SceneObject, number: int, image_id: int) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": item.label + 1,
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "area": item.area,
        "iscrowd": 0,
        "segmentation": [],
    }


def _labellings(
    names: tuple[str, ...], annotations: list[dict[str, Any]]
) -> list[tuple[str, tuple[str, ...], list[dict[str, Any]]]]:
    """The annotation files of the same pictures: end of the name, classes, annotations."""
    single = [{**annotation, "category_id": 1} for annotation in annotations]
    frequent = [annotation for annotation in annotations if annotation["category_id"] <= 4]
    return [
        ("", names, annotations),
        ("_one", ("object",), single),
        ("_four", names[:4], frequent),
    ]

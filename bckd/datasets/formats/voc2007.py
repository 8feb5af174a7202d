"""Photographs of PASCAL VOC2007's test set as the small data set of the studies on photographs.

2800 images to learn from and 1000 to evaluate on, made small, under COCO's names and ids of VOC's
20 classes, so that a detector that was trained on COCO can teach there. `voc2007.json` lists the
images of both parts; no photographer has images in both.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image
from tqdm.auto import tqdm

from bckd.datasets.findings import Findings
from bckd.datasets.formats.converting import check_free, refuse
from bckd.datasets.formats.labelled import Box, LabelledImage, LabelledSet, Tree
from bckd.datasets.formats.voc import read_voc
from bckd.system.errors import InputError
from bckd.system.files import one_maker, read_json, whole_folder, write_atomically, writing
from bckd.system.telling import first_of

LISTS = Path(__file__).with_suffix(".json")  # numbers of the images by part, rising
SIDE = 320  # of an image, in pixels at most
QUALITY = 88  # of its JPEG
_DIGITS = 2  # of coordinates in pixels, behind the point

# Name and id of each class in COCO, by its name in VOC.
CLASSES = {
    "person": ("person", 1),
    "bicycle": ("bicycle", 2),
    "car": ("car", 3),
    "motorbike": ("motorcycle", 4),
    "aeroplane": ("airplane", 5),
    "bus": ("bus", 6),
    "train": ("train", 7),
    "boat": ("boat", 9),
    "bird": ("bird", 16),
    "cat": ("cat", 17),
    "dog": ("dog", 18),
    "horse": ("horse", 19),
    "sheep": ("sheep", 20),
    "cow": ("cow", 21),
    "bottle": ("bottle", 44),
    "chair": ("chair", 62),
    "sofa": ("couch", 63),
    "pottedplant": ("potted plant", 64),
    "diningtable": ("dining table", 67),
    "tvmonitor": ("tv", 72),
}


def write_voc2007(source: Path, root: Path, progress: bool = True) -> dict[str, tuple[int, int]]:
    """Make the data set of the official folder; it is there as a whole, or not at all.

    `root` then has the layout of the preset "custom". Objects that VOC marks difficult are learnt
    and judged as all others, and have `difficult` 1 in the annotation files.

    Args:
        source: VOCdevkit/VOC2007, of the archive of the test set.
        root: absent, or an empty folder.
        progress: show bars.

    Returns:
        Images and boxes by part.

    Raises:
        InputError: an image of the lists is not there, something in the source is wrong, or `root`
            is there already or can't be written.
    """
    if not source.is_dir():
        raise InputError(f"{source} does not exist; expected VOCdevkit/VOC2007 of VOC's test set")
    check_free(root)
    labelled = _listed(source, progress)
    place = Path(os.path.realpath(root))  # a link is followed
    with one_maker(place), writing(root), whole_folder(place) as folder:
        return {part: _write(labelled, part, folder, progress) for part in labelled.parts}


def _listed(source: Path, progress: bool) -> LabelledSet:
    """What VOC says of the images of the lists, in their parts and order."""
    findings = Findings(source)
    found = read_voc(Tree(source, progress=progress), findings)
    refuse(findings)
    unknown = sorted({*found.class_names} - {*CLASSES})
    if unknown:
        raise InputError(f"{source} has objects of {first_of(unknown)}; expected VOC's 20 classes")
    images = {image.path.stem: image for part in found.parts.values() for image in part}
    lists = {part: [f"{n:06}" for n in numbers] for part, numbers in read_json(LISTS).items()}
    wanted = [name for names in lists.values() for name in names]
    absent = [name for name in wanted if name not in images]
    if absent:
        raise InputError(
            f"{source} lacks {len(absent)} of {len(wanted)} images ({first_of(absent)}); expected "
            f"VOC2007's test set"
        )
    parts = {part: [images[name] for name in names] for part, names in lists.items()}
    return replace(found, parts=parts)


def _write(labelled: LabelledSet, part: str, folder: Path, progress: bool) -> tuple[int, int]:
    """Write the images and the annotation file of a part; how many images and boxes it has."""
    (folder / part).mkdir()
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image in tqdm(labelled.parts[part], part, leave=False, disable=not progress):
        number, file_name = int(image.path.stem), f"{image.path.stem}.jpg"
        width, height = sides = _small(image.width, image.height)
        _shrink(image.path, folder / part / file_name, sides)
        images.append({"id": number, "file_name": file_name, "width": width, "height": height})
        for box in image.boxes:
            row = {"id": len(rows) + 1, "image_id": number}
            rows.append(row | _object(box, labelled.class_names[box.label], image, sides))
    description = f"Part of the PASCAL VOC2007 test set, longer side {SIDE}; split by photographer"
    categories = sorted(CLASSES.values(), key=lambda named: named[1])
    content = {
        "info": {"description": description},
        "licenses": [],
        "images": images,
        "annotations": rows,
        "categories": [{"id": id, "name": name} for name, id in categories],
    }
    path = folder / "annotations" / f"instances_{part}.json"
    write_atomically(path, lambda file: file.write_bytes(msgspec.json.encode(content)))
    return len(images), len(rows)


def _object(box: Box, name: str, image: LabelledImage, sides: tuple[int, int]) -> dict[str, Any]:
    """An annotation of an image that was brought to another size."""
    across, down = sides[0] / image.width, sides[1] / image.height
    corner = (box.x1 * across, box.y1 * down)
    extent = ((box.x2 - box.x1) * across, (box.y2 - box.y1) * down)
    bbox = [round(side, _DIGITS) for side in (*corner, *extent)]
    return {
        "category_id": CLASSES[name][1],
        "bbox": bbox,
        "area": round(bbox[2] * bbox[3], _DIGITS),
        "iscrowd": 0,
        "segmentation": [],
        "difficult": int(box.crowd),  # as which `read_voc` has them
    }


def _small(width: int, height: int) -> tuple[int, int]:
    """The size of an image whose longer side may have `SIDE` pixels."""
    scale = min(1.0, SIDE / max(width, height))
    return round(width * scale), round(height * scale)


def _shrink(source: Path, target: Path, sides: tuple[int, int]) -> None:
    """Write an image anew in another size, without what else its file says."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize(sides, Image.Resampling.LANCZOS)
    small.info.clear()
    small.save(target, "JPEG", quality=QUALITY)

"""A copy of an annotation file in which is right what has one right answer.

What that is, the reader has said already (`bckd.datasets`): it is written down here. All else of
the file stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bckd.datasets.annotations import MARKED, Annotations, gather_annotations
from bckd.datasets.boxes import (
    AREAS,
    CENTRES,
    CLIPPED,
    CORNERS,
    NO_AREA,
    OTHER_KIND,
    OUTSIDE,
    RENUMBERED,
    SOME_CORNERS,
)
from bckd.datasets.entries import (
    BACKSLASHES,
    BY_URL,
    DELETED,
    NAMES,
    SIZES,
    WHOLE,
    ImageEntry,
    whole_number,
)
from bckd.datasets.findings import Findings, Kind
from bckd.datasets.image_files import OTHER_SIZE
from bckd.datasets.instances_file import lists_of

MENDED: dict[Kind, str] = {
    MARKED: "taken off",
    CORNERS: "made x, y, width, height",
    SOME_CORNERS: "made x, y, width, height",
    CLIPPED: "clipped",
    NO_AREA: "taken out",
    OUTSIDE: "taken out",
    DELETED: "taken out",
    AREAS: "made width times height",
    RENUMBERED: "all annotations counted from 1",
    OTHER_KIND: "written alike",
    WHOLE: "written as whole numbers",
    SIZES: "filled in",
    BY_URL: "file_name filled in",
    BACKSLASHES: "made slashes",
    NAMES: "made those of the files",
}

_BY_SIZE = (CLIPPED, OUTSIDE, AREAS)  # what follows from the size that an image is listed with


def mendable(findings: Findings) -> set[Kind]:
    """The kinds that have one right answer.

    Where files are of another size than listed, or x and y may be those of a middle, no box is
    known to lie outside.
    """
    doubtful = OTHER_SIZE in findings.faults or CENTRES in findings.oddities
    return {kind for kind in MENDED if not (doubtful and kind in _BY_SIZE)}


def mended(
    content: Any, annotations: Annotations, folder: Path
) -> tuple[Any, dict[Kind, list[str]]]:
    """The content with all of `MENDED` made right, and what was changed, by kind.

    Args:
        content: of the file, as Python's reader has it.
        annotations: what was gathered from it.
        folder: of the images.
    """
    content = copy.deepcopy(content)
    known = mendable(annotations.findings)
    changed: dict[Kind, list[str]] = {}
    for kind in (CORNERS, SOME_CORNERS):
        if kind in annotations.findings.faults:
            changed[kind] = annotations.findings.faults[kind]
            _turn_corners(content, annotations.findings.entries.get(kind))
    if changed:
        path, marked = annotations.path, MARKED in annotations.findings.oddities
        annotations = gather_annotations(lists_of(content, path, marked), path, folder)
    found = annotations.findings
    changed |= {kind: places for kind, places in found.oddities.items() if kind in known}
    if not changed:
        return content, changed
    images = {image.id: image for image in annotations.images}
    content["images"] = list(_images(content["images"], images))
    for row in content["categories"]:
        if isinstance(row, dict):
            row["id"] = _as_whole(row.get("id"), set(annotations.category_ids))
    if annotations.labelled:
        content["annotations"] = list(_annotations(content["annotations"], annotations, known))
        if RENUMBERED in changed:
            for number, row in enumerate(content["annotations"], 1):
                if isinstance(row, dict):
                    row["id"] = number
    return content, changed


def _turn_corners(content: Any, numbers: list[int] | None) -> None:
    """Make boxes of x1, y1, x2, y2 those of x, y, width, height.

    Args:
        numbers: of their entries, from 1 on; None: all.
    """
    chosen = None if numbers is None else frozenset(numbers)
    for number, row in enumerate(content["annotations"], 1):
        if chosen is not None and number not in chosen:
            continue
        box = row.get("bbox") if isinstance(row, dict) else None
        if isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box):
            left, top, right, bottom = box
            row["bbox"] = [left, top, right - left, bottom - top]


def _images(rows: list[Any], images: dict[Any, ImageEntry]) -> Iterator[Any]:
    """The entries; the first of an id is the one that was read."""
    unread = dict(images)
    for row in rows:
        if not isinstance(row, dict):
            yield row
            continue
        if row.get("deleted") is True:
            continue
        identity = row.get("id")
        number = identity if isinstance(identity, str) else whole_number(identity)
        image = unread.pop(number, None)
        if image is not None:
            row["id"] = image.id
            row.update(file_name=image.file_name, width=image.width, height=image.height)
        yield row


def _as_whole(identity: Any, known: set[Any]) -> Any:
    """The id of a category as the reader has it."""
    text = isinstance(identity, str) and identity.isascii() and identity.isdigit()
    number = int(identity) if text else whole_number(identity)
    return number if number in known else identity


def _annotations(rows: list[Any], annotations: Annotations, known: set[Kind]) -> Iterator[Any]:
    """The entries that have an area within their image, and those that are at fault."""
    boxes, truth = annotations.truth.boxes, annotations.truth
    position = {number: row for row, number in enumerate(boxes.numbers.tolist())}
    entries = annotations.findings.entries
    gone = {number for kind in known for number in entries.get(kind, ())}
    for number, row in enumerate(rows, 1):
        if number in gone:
            continue
        if number in position:
            n = position[number]
            row["image_id"] = annotations.images[boxes.images[n]].id
            row["category_id"] = truth.categories[boxes.labels[n]][0]
            if CLIPPED in known:
                _settle(row, boxes.bbox[n], float(boxes.area[n]))
        yield row


def _settle(row: dict[str, Any], bbox: np.ndarray, area: float) -> None:
    """Write box and area as they were read, where they differ."""
    if row["bbox"] != bbox.tolist():
        row["bbox"] = bbox.tolist()
    if row.get("area") is not None and row["area"] != area:
        row["area"] = area

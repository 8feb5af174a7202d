"""The boxes of a COCO instances file, each cleaned or noted as a fault, as columns of numbers.

COCO has 860 thousand of them: an entry is looked at by itself only where something about it is odd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Raw

from bckd.datasets.box_readings import (
    BY_AREAS,
    Written,
    all_in_a_corner,
    corners_by_area,
    maybe_centres,
    maybe_fractions,
    other_reading,
    overhang,
)
from bckd.datasets.box_rows import BoxRows, Ids
from bckd.datasets.entries import (
    DELETED,
    NUMBERS,
    TOO_LARGE,
    WHOLE,
    ImageEntry,
    Listed,
    note_absent,
    whole_number,
)
from bckd.datasets.findings import Fault, Findings, Oddity, place, shown
from bckd.datasets.instances_file import Annotation

ROUNDING = 0.05  # pixels by which COCO's own boxes may leave their image: coordinates are rounded

_FOUR = "expected [x, y, width, height] in pixels"
NOT_FOUR = Fault("annotations whose bbox is not four finite numbers", _FOUR)
NO_CROWD = Fault("annotations whose iscrowd is neither 0 nor 1", "expected one of these")
BELOW_ZERO = Fault("annotations whose bbox has a side below 0", _FOUR)


def read_only(reading: str) -> Fault:
    """The kind of fault of a file whose boxes make sense in another way alone."""
    return Fault(f"boxes that make sense only {reading}", f"{_FOUR}, x and y of the top left")


CORNERS = read_only(BY_AREAS)
SOME_CORNERS = Fault("boxes that are x1, y1, x2, y2 by their area, unlike the others", _FOUR)
FRACTIONS = Oddity(
    "boxes with no number above 1 are too small to learn; are they fractions of the image's sides?"
)
RENUMBERED = Oddity("ids of annotations that are absent or repeated are counted anew")
OTHER_KIND = Oddity("ids that are text in one list and numbers in another are taken for the same")
TWICE = Oddity("boxes that are there twice, of which a detector can find only one")
TWO_CLASSES = Oddity("boxes that are there with another class too")
CORNER = Oddity(
    "boxes that all lie in the upper left quarter of their images (are they in pixels of these?)"
)
NO_AREA = Oddity("boxes without width or height are left out of training and evaluation")
OUTSIDE = Oddity(
    "boxes that lie wholly outside their image are left out of training and evaluation"
)
CLIPPED = Oddity("boxes that reach beyond their image are clipped to it, the farthest first")
CENTRES = Oddity(
    f"{CLIPPED.what} (all would lie inside if x and y were those of the middle: are they?)"
)
TURNED = Oddity(
    "boxes with a rotation among their attributes are taken as they are written, unturned"
)
OUTLINED = Oddity(
    "crowd regions (iscrowd 1) whose outline is a polygon, as of one object (COCO's are masks)"
)
AREAS = Oddity("areas that the box can't have are replaced by width times height")


@dataclass(frozen=True)
class Boxes:
    """The N boxes of a file that lie in their images and have an area, in its order.

    Attributes:
        numbers: (N,) places in its list, from 1 on.
        images: (N,) positions in the list of images, which is in the order of their ids.
        labels: (N,) positions in the list of categories, which is in the order of their ids.
        corners: (N, 4) float32 xyxy pixels, within the image.
        bbox: (N, 4) float64 x, y, width, height as COCO's evaluation takes them: as they are
            written, clipped where more than their rounding lies outside.
        area: (N,) float64, of the object or of the box.
        crowd: (N,) bool.
        learnable: (N,) bool, whether training takes them (mmdetection 2.28 `datasets/coco.py`,
            `_parse_ann_info`): they are at least one pixel wide and high.
    """

    numbers: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    corners: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    learnable: np.ndarray

    def where(self, chosen: np.ndarray) -> Boxes:
        """Some of them, by a mask (N,) or by positions."""
        return Boxes(**{name: column[chosen] for name, column in vars(self).items()})


# By a field of an annotation: the list that its id stands in, and the position there by id.
# None of what is at fault itself. Where ids of the list are not known, any may be one of them.
_Known = dict[str, tuple[str, Mapping[int | str, int | None], bool]]


def read_boxes(
    raws: Iterable[Annotation | Any],
    images: Listed[int | str, ImageEntry],
    categories: Listed[int, str],
    findings: Findings,
) -> Boxes:
    """The boxes of the file that lie in their images and have an area.

    Those of images and categories that are at fault themselves are passed over.
    """
    listed: _Known = {
        "image_id": ("images", _positions(images.by_id), images.complete),
        "category_id": ("categories", _positions(categories.by_id), categories.complete),
    }
    rows = _rows_of(raws, [*images.usable.values()], listed, findings)
    with np.errstate(over="ignore"):  # of sides of 200 digits: no area is infinite
        return _checked(rows, findings)


def _rows_of(
    raws: Iterable[Annotation | Any],
    images: Sequence[ImageEntry],
    listed: _Known,
    findings: Findings,
) -> BoxRows:
    """The entries whose fields are of the right kinds.

    By itself, so that no entry outlives it: one has the whole file in memory.
    """
    rows = BoxRows(images)
    for number, raw in enumerate(raws, 1):
        _read(raw, number, listed, rows, findings)
    return rows


def _positions(entries: Mapping[Any, object]) -> dict[int | str, int | None]:
    """By id, where an entry stands among those that are not at fault."""
    usable = iter(range(len(entries)))
    return {key: None if entry is None else next(usable) for key, entry in entries.items()}


def _read(raw: Any, number: int, listed: _Known, rows: BoxRows, findings: Findings) -> None:
    """Add an entry to the rows if its fields are of the right kinds."""
    rows.ids.append(getattr(raw, "id", None))
    if type(raw) is not Annotation or None in (raw.image_id, raw.category_id, raw.bbox):
        note_absent("annotations", raw, number, ("image_id", "category_id", "bbox"), findings)
        return
    if raw.deleted is True:
        findings.add(DELETED, f"annotation with {place(raw.id, number)}", entry=number)
        return
    image = _position(raw, number, "image_id", raw.image_id, listed, findings)
    label = _position(raw, number, "category_id", raw.category_id, listed, findings)
    if raw.bbox == []:  # what some tools write for an image without objects
        findings.add(NO_AREA, f"{place(raw.id, number)} has []", entry=number)
    elif not _is_box(raw.bbox):
        findings.add(NOT_FOUR, f"{place(raw.id, number)} has {shown(raw.bbox)}")
    elif raw.iscrowd not in (None, 0, 1):
        findings.add(NO_CROWD, f"{place(raw.id, number)} has {shown(raw.iscrowd)}")
    elif image is not None and label is not None:
        rows.add(number, image, label, raw)
        if raw.iscrowd and _is_polygon(raw.segmentation):
            findings.add(OUTLINED, place(raw.id, number))
        if isinstance(raw.attributes, dict) and raw.attributes.get("rotation"):
            findings.add(TURNED, f"{place(raw.id, number)} by {shown(raw.attributes['rotation'])}")


def _is_polygon(outline: Any) -> bool:
    """Whether an outline, read or as it stands in the file, is a list that is not empty."""
    if isinstance(outline, Raw):
        text = bytes(outline).strip()
        return text.startswith(b"[") and bool(text[1:-1].strip())
    return isinstance(outline, list) and bool(outline)


def _is_box(value: Any) -> bool:
    """Whether a value is four of what `is_number` takes, asked at once: it is asked most often."""
    if type(value) is not list or len(value) != 4:
        return False
    x, y, width, height = value
    return {type(x), type(y), type(width), type(height)} <= NUMBERS and (
        -TOO_LARGE < x < TOO_LARGE
        and -TOO_LARGE < y < TOO_LARGE
        and -TOO_LARGE < width < TOO_LARGE
        and -TOO_LARGE < height < TOO_LARGE
    )


def _position(
    raw: Annotation, number: int, name: str, value: Any, listed: _Known, findings: Findings
) -> int | None:
    """Where the list that an id of an annotation is of has it, or None."""
    part, known, complete = listed[name]
    if type(value) is int and value in known:  # as nearly all are
        return known[value]
    written, value = value, value if isinstance(value, str) else whole_number(value)
    where = place(raw.id, number)
    if value is not None:
        if value in known:
            if type(written) is float:
                findings.add(WHOLE, f"annotation {where} has {name} {shown(written)}")
            return known[value]
        other = _other_kind(value)
        if other in known:
            findings.add(OTHER_KIND, f"{where} has {name} {shown(value)} for {shown(other)}")
            return known[other]
    if not complete:
        return None
    such = shown(next(iter(known)))
    what = f"annotations with a value of '{name}' that is no id in '{part}'"
    kind = Fault(what, f"expected one that is, such as {such}")
    findings.add(kind, f"{where} has {shown(written)}")
    return None


def _other_kind(value: int | str) -> int | str:
    """An id that is a number as text, or the reverse."""
    if isinstance(value, int):
        return str(value)
    return int(value) if value.isdecimal() and len(value) < 20 else value


def _checked(rows: BoxRows, findings: Findings) -> Boxes:
    """The boxes of the rows that can be used; the others are noted.

    There are none where all are written in another way: nothing else is known of them then.
    """
    _note_repeated(rows.ids, findings)
    written = rows.written()
    every = range(len(written.box))
    solid = written.where(written.box[:, 2:].min(axis=1) != 0)
    reading = other_reading(solid)
    if reading is not None:
        findings.add(read_only(reading), *map(rows.box, every))
        boxes, _ = _within_images(rows, written, Findings(findings.source))
        return boxes.where(np.zeros(len(every), dtype=bool))
    if all_in_a_corner(solid):
        findings.add(CORNER, *map(rows.box, every))
    corners = corners_by_area(written)
    for row in np.flatnonzero(corners).tolist():
        where = f"{rows.box(row)} on {rows.file_name(row)}"
        findings.add(SOME_CORNERS, where, entry=rows.number(row))
    for row in np.flatnonzero(maybe_fractions(written)).tolist():
        findings.add(FRACTIONS, f"{rows.box(row)} on {rows.file_name(row)}")
    boxes, usable = _within_images(rows, written, findings)
    kind = CENTRES if maybe_centres(solid) else CLIPPED
    _note_overhangs(rows, written, usable & ~corners, kind, findings)
    boxes = boxes.where(usable)
    _note_doubles(rows, written, usable, findings)
    return boxes


def _within_images(rows: BoxRows, written: Written, findings: Findings) -> tuple[Boxes, np.ndarray]:
    """All boxes, each within its image, and which can be used (N,) bool."""
    x, y, width, height = written.box.T
    left, top = np.maximum(x, 0), np.maximum(y, 0)
    right, bottom = np.minimum(x + width, written.width), np.minimum(y + height, written.height)
    usable = (written.box[:, 2:].min(axis=1) > 0) & (right > left) & (bottom > top)
    clipped = overhang(written) > ROUNDING
    inside = np.stack([left, top, right - left, bottom - top], axis=1)
    bbox = np.where(clipped[:, None], inside, written.box)
    for row in sorted({*np.flatnonzero(~usable).tolist(), *rows.odd_areas}):
        _note(rows, row, written.box[row], bool(usable[row]), findings)
    said, of_box = written.area.copy(), bbox[:, 2] * bbox[:, 3]
    said[list(rows.odd_areas)] = np.nan
    said[clipped] = np.minimum(said, of_box)[clipped]
    return Boxes(
        numbers=rows.numbers,
        images=rows.images,
        labels=rows.labels,
        corners=np.stack([left, top, right, bottom], axis=1).astype(np.float32),
        bbox=bbox,
        area=np.where(np.isnan(said), of_box, said),
        crowd=rows.crowd,
        learnable=(width >= 1) & (height >= 1),
    ), usable


def _note(rows: BoxRows, row: int, box: np.ndarray, usable: bool, findings: Findings) -> None:
    """Note what is odd about a box by itself, or about its area."""
    if usable:
        area = shown(rows.odd_areas[row])
        findings.add(AREAS, f"{rows.place(row)} has {area}, its box {box[2] * box[3]:g}")
    elif min(box[2:]) > 0:
        where = f"{rows.box(row)} on {rows.file_name(row)}"
        findings.add(OUTSIDE, where, entry=rows.number(row))
    else:
        kind = NO_AREA if min(box[2:]) == 0 else BELOW_ZERO
        findings.add(kind, rows.box(row), entry=rows.number(row))


def _note_overhangs(
    rows: BoxRows, written: Written, usable: np.ndarray, kind: Oddity, findings: Findings
) -> None:
    beyond = np.where(usable, overhang(written), 0)
    for row in np.argsort(-beyond, kind="stable")[: (beyond > ROUNDING).sum()].tolist():
        what = f"{rows.place(row)} by {beyond[row]:.3g} pixels"
        findings.add(kind, f"{what} on {rows.file_name(row)}")


def _note_doubles(rows: BoxRows, written: Written, usable: np.ndarray, findings: Findings) -> None:
    images, labels, kept = rows.images, rows.labels, np.flatnonzero(usable)
    columns = (*written.box[kept].T, images[kept])
    order = np.lexsort(columns)  # equal ones side by side, in the order of the file
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for column in columns:
        new[1:] |= np.diff(column[order]) != 0
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    pairs = np.stack([kept[order], kept[order[first]]], axis=1)[~new].tolist()
    for row, earlier in sorted(pairs):
        kind = TWICE if labels[row] == labels[earlier] else TWO_CLASSES
        where = f"{rows.place(row)} as {rows.place(earlier)}"
        findings.add(kind, f"{where} on {rows.file_name(row)}")


def _note_repeated(ids: Ids, findings: Findings) -> None:
    if ids.distinct:
        return
    given = [None if identity is None else repr(identity) for identity in ids]
    counts = Counter(given)
    for number, (identity, key) in enumerate(zip(ids, given, strict=True), 1):
        if key is None or counts[key] > 1:
            findings.add(RENUMBERED, place(identity, number))

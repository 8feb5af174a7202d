"""The entries of a COCO instances file, each cleaned or noted as a fault.

What harmlessly differs from COCO's own files is made right and noted too; see `Findings`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from bckd.datasets.box_readings import (
    Four,
    Written,
    all_in_a_corner,
    maybe_centres,
    other_reading,
    overhang,
    possible,
)
from bckd.datasets.decoding import header_of
from bckd.datasets.findings import Fault, Findings, Oddity, place, shown
from bckd.system.errors import InputError

ROUNDING = 0.05  # pixels by which COCO's own boxes may leave their image: coordinates are rounded

_NO_OBJECT = "needs the fields of COCO's format"
_FOUR = "expected [x, y, width, height] in pixels"
RENUMBERED = Oddity("ids of annotations that are absent or repeated are counted anew")
BY_URL = Oddity("images without file_name are taken by the end of their coco_url")
BACKSLASHES = Oddity("backslashes in file names are read as slashes")
SIZES = Oddity("images without width and height have those of their files")
OTHER_KIND = Oddity("ids that are text in one list and numbers in another are taken for the same")
TWINS = Oddity("categories of one name are told apart by their ids")
ALIKE = Oddity("categories whose names differ by case, spaces or hyphens alone")
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
AREAS = Oddity("areas that the box can't have are replaced by width times height")


@dataclass(frozen=True)
class ImageEntry:
    """One image of the file: id, file name below the image folder, size in pixels."""

    id: int | str
    file_name: str
    width: int
    height: int


# By a field of an annotation: the list that its id stands in, and what that has by id.
_Known = dict[str, tuple[str, dict[Any, Any]]]


@dataclass(frozen=True)
class Annotated:
    """A box of the file.

    Attributes:
        entry: as pycocotools needs it: box within the image, `area` and `iscrowd` filled in.
        box: xyxy pixels, within the image.
        learnable: whether training takes it (mmdetection 2.28 `datasets/coco.py`,
            `_parse_ann_info`): it is at least one pixel wide and high.
    """

    entry: dict[str, Any]
    box: list[float]
    learnable: bool


def read_images(
    raws: list[Any], folder: Path | None, findings: Findings
) -> tuple[list[ImageEntry], list[dict[str, Any]]]:
    """The images in the order of their ids, and their entries of the file, made right.

    Args:
        folder: where the files are, for what the file does not say; None: it has to say all.

    Raises:
        InputError: there are faults.
    """
    read = [_image(raw, number, folder, findings) for number, raw in enumerate(raws, 1)]
    findings.check()
    found = [entry for entry in read if entry is not None]  # all: one that is None is a fault
    _check_unique("images", raws, findings)
    if len({type(entry.id) for entry in found}) > 1:
        kind = Fault("images with an id that is text, where others have numbers", "expected one")
        for number, raw in enumerate(raws, 1):
            if isinstance(raw["id"], str):
                findings.add(kind, place(raw, number))
    findings.check()
    fields = ("file_name", "width", "height")
    raws = [
        {**raw, **{name: getattr(entry, name) for name in fields}}
        for raw, entry in zip(raws, found, strict=True)
    ]
    return sorted(found, key=lambda entry: entry.id), raws


def _image(raw: Any, number: int, folder: Path | None, findings: Findings) -> ImageEntry | None:
    if not _has("images", raw, number, ("id",), findings):
        return None
    if not (_whole(raw["id"]) or isinstance(raw["id"], str)):
        kind = Fault("images whose id is neither a whole number nor text", "expected one of these")
        findings.add(kind, place(raw, number))
        return None
    name = _file_name(raw, number, folder, findings)
    if name is None:
        return None
    entry = ImageEntry(raw["id"], name, _side(raw.get("width")), _side(raw.get("height")))
    if entry.width and entry.height:
        return entry
    return _measured(entry, place(raw, number), folder, findings)


def _file_name(
    raw: dict[str, Any], number: int, folder: Path | None, findings: Findings
) -> str | None:
    name, url, where = raw.get("file_name"), raw.get("coco_url"), place(raw, number)
    if name is None and isinstance(url, str):
        findings.add(BY_URL, where)
        name = "/".join(url.split("/")[-2:])
    if not _is_text(name):
        kind = Fault("images without a file_name", "expected the name of a file below the folder")
        findings.add(kind, f"{where} has {shown(name)}" if "file_name" in raw else where)
        return None
    if "\\" in name and folder is not None and not (folder / name).is_file():
        findings.add(BACKSLASHES, f"{where} {shown(name)}")
        name = name.replace("\\", "/")
    return name


def _measured(
    entry: ImageEntry, where: str, folder: Path | None, findings: Findings
) -> ImageEntry | None:
    """The entry with the size of its file."""
    if folder is None:
        kind = Fault("images without width or height of at least 1", "expected both, in pixels")
        findings.add(kind, f"{where} {entry.file_name}")
        return None
    try:
        header = header_of(folder / entry.file_name)
    except InputError as error:
        kind = Fault(
            "images without width and height whose file does not say them", "expected both"
        )
        findings.add(kind, f"{where}: {error}")
        return None
    findings.add(SIZES, f"{where} {entry.file_name} {header.width}x{header.height}")
    return replace(entry, width=header.width, height=header.height)


def read_categories(raws: list[Any], findings: Findings) -> list[tuple[int, str]]:
    """(id, name) of the categories in the order of their ids; the names are unique.

    Raises:
        InputError: there are faults.
    """
    found = []
    for number, raw in enumerate(raws, 1):
        if not _has("categories", raw, number, ("id", "name"), findings):
            continue
        if not _whole(raw["id"]):
            findings.add(
                Fault("categories whose id is no whole number", "expected one"), place(raw, number)
            )
        elif not _is_line(raw["name"]):
            where = f"{place(raw, number)} has {shown(raw['name'])}"
            kind = Fault("categories whose name is no line of text", "expected one that shows")
            findings.add(kind, where)
        else:
            found.append((raw["id"], raw["name"]))
    findings.check()
    _check_unique("categories", raws, findings)
    findings.check()
    twins = {name for name, count in Counter(name for _, name in found).items() if count > 1}
    for identity, name in found:
        if name in twins:
            findings.add(TWINS, f"{name!r} with id {identity} is called '{_apart(name, identity)}'")
    _note_alike(found, findings)
    return sorted((key, _apart(name, key) if name in twins else name) for key, name in found)


def _note_alike(categories: Sequence[tuple[int, str]], findings: Findings) -> None:
    alike: dict[str, dict[str, int]] = {}
    for identity, name in categories:
        letters = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(re.sub(r"[\s_-]+", "", letters) or name, {})[name] = identity
    for names in alike.values():
        if len(names) > 1:
            findings.add(ALIKE, " and ".join(f"{name!r} (id {key})" for name, key in names.items()))


def _apart(name: str, identity: int) -> str:
    return f"{name} (id {identity})"


def read_boxes(
    raws: list[Any],
    images: Sequence[ImageEntry],
    category_ids: Sequence[int],
    findings: Findings,
) -> list[Annotated]:
    """The boxes of the file that lie in their images and have an area.

    Raises:
        InputError: there are faults.
    """
    listed: _Known = {
        "image_id": ("images", {image.id: image for image in images}),
        "category_id": ("categories", {key: key for key in category_ids}),
    }
    rows = []
    for number, raw in enumerate(raws, 1):
        row = _row(raw, number, listed, findings)
        if row is not None:
            rows.append(row)
    boxes = [row.written for row in rows if min(row.written.box[2:]) != 0]
    reading = other_reading(boxes)
    if reading is not None and not findings.faults:
        kind = Fault(f"boxes that make sense only {reading}", f"{_FOUR}, x and y of the top left")
        for row in rows:
            findings.add(kind, f"{row.where} has {_box(row.written.box)}")
    findings.check()
    _note_repeated(raws, findings)
    if all_in_a_corner(boxes):
        for row in rows:
            findings.add(CORNER, f"{row.where} has {_box(row.written.box)}")
    clipped = [_within_image(row, findings) for row in rows]
    _note_overhangs(rows, clipped, CENTRES if maybe_centres(boxes) else CLIPPED, findings)
    _note_doubles(rows, clipped, findings)
    findings.check()
    return [found for found in clipped if found is not None]


@dataclass(frozen=True)
class _Row:
    """An entry of 'annotations' whose fields are of the right kinds."""

    entry: dict[str, Any]
    written: Written
    file_name: str
    number: int
    given_id: Any

    @property
    def where(self) -> str:
        return place({"id": self.given_id}, self.number)


def _row(raw: Any, number: int, listed: _Known, findings: Findings) -> _Row | None:
    if not _has("annotations", raw, number, ("image_id", "category_id", "bbox"), findings):
        return None
    found = {name: _listed(raw, number, name, *listed[name], findings) for name in listed}
    if raw["bbox"] == []:  # what some tools write for an image without objects
        findings.add(NO_AREA, f"{place(raw, number)} has []")
        return None
    for name, right, kind in _VALUES:
        if not right(raw.get(name)):
            findings.add(kind, f"{place(raw, number)} has {shown(raw.get(name))}")
            return None
    if None in found.values():
        return None
    image, area = found["image_id"], raw.get("area")
    entry = {
        **raw,
        "id": number,  # from 1: pycocotools takes a match with id 0 for none
        "image_id": image.id,
        "category_id": found["category_id"],
        "iscrowd": int(raw.get("iscrowd") or 0),
    }
    known = float(area) if _is_number(area) and area > 0 else None
    x, y, width, height = map(float, raw["bbox"])
    written = Written((x, y, width, height), image.width, image.height, known)
    return _Row(entry, written, image.file_name, number, raw.get("id"))


def _listed(
    raw: dict[str, Any],
    number: int,
    name: str,
    part: str,
    known: dict[Any, Any],
    findings: Findings,
) -> Any:
    """What `part` lists under an id of an annotation, or None."""
    value = raw[name]
    if isinstance(value, int | str) and not isinstance(value, bool):
        if value in known:
            return known[value]
        other = _other_kind(value)
        if other in known:
            where = place(raw, number)
            findings.add(OTHER_KIND, f"{where} has {name} {shown(value)} for {shown(other)}")
            return known[other]
    such = shown(next(iter(known)))
    what = f"annotations with a value of '{name}' that is no id in '{part}'"
    kind = Fault(what, f"expected one that is, such as {such}")
    findings.add(kind, f"{place(raw, number)} has {shown(value)}")
    return None


def _other_kind(value: int | str) -> int | str:
    """An id that is a number as text, or the reverse."""
    if isinstance(value, int):
        return str(value)
    return int(value) if value.isdecimal() and len(value) < 20 else value


def _within_image(row: _Row, findings: Findings) -> Annotated | None:
    (x, y, width, height), image_width, image_height, _ = row.written
    if width < 0 or height < 0:
        kind = Fault("annotations whose bbox has a side below 0", _FOUR)
        findings.add(kind, f"{row.where} has {_box(row.written.box)}")
        return None
    if width == 0 or height == 0:
        findings.add(NO_AREA, f"{row.where} has {_box(row.written.box)}")
        return None
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, image_width), min(y + height, image_height)
    if right <= left or bottom <= top:
        findings.add(OUTSIDE, f"{row.where} has {_box(row.written.box)} on {row.file_name}")
        return None
    bbox = row.entry["bbox"]
    if overhang(row.written) > ROUNDING:
        bbox = [left, top, right - left, bottom - top]
    entry = {**row.entry, "bbox": bbox, "area": _area(row, bbox, findings)}
    return Annotated(entry, [left, top, right, bottom], width >= 1 and height >= 1)


def _area(row: _Row, bbox: list[float], findings: Findings) -> float:
    """The file's area, or that of the box within the image where there is none that it can have."""
    (_, _, width, height), given = row.written.box, row.entry.get("area")
    inside = bbox[2] * bbox[3]
    if given is None:
        return inside
    known = row.written.area
    if known is None or not possible(known, width, height):
        findings.add(AREAS, f"{row.where} has {shown(given)}, its box {width * height:g}")
        return inside
    return known if bbox is row.entry["bbox"] else min(known, inside)


def _note_overhangs(
    rows: Sequence[_Row], clipped: Sequence[Annotated | None], kind: Oddity, findings: Findings
) -> None:
    pairs = zip(rows, clipped, strict=True)
    beyond = [(overhang(row.written), row) for row, found in pairs if found is not None]
    for pixels, row in sorted(beyond, key=lambda pair: -pair[0]):
        if pixels > ROUNDING:
            findings.add(kind, f"{row.where} by {pixels:.3g} pixels on {row.file_name}")


def _note_doubles(
    rows: Sequence[_Row], clipped: Sequence[Annotated | None], findings: Findings
) -> None:
    first: dict[Any, _Row] = {}
    for row, found in zip(rows, clipped, strict=True):
        key = (row.entry["image_id"], row.written.box)
        earlier = first.setdefault(key, row) if found is not None else row
        if earlier is not row:
            same = row.entry["category_id"] == earlier.entry["category_id"]
            kind = TWICE if same else TWO_CLASSES
            findings.add(kind, f"{row.where} as {earlier.where} on {row.file_name}")


def _note_repeated(raws: list[dict[str, Any]], findings: Findings) -> None:
    given = [repr(raw["id"]) if raw.get("id") is not None else None for raw in raws]
    counts = Counter(given)
    for number, (raw, key) in enumerate(zip(raws, given, strict=True), 1):
        if key is None or counts[key] > 1:
            findings.add(RENUMBERED, place(raw, number))


def _check_unique(part: str, raws: list[dict[str, Any]], findings: Findings) -> None:
    kind = Fault(f"{part} with an id that an earlier one has", "expected an id of its own for each")
    first: dict[Any, int] = {}
    for number, raw in enumerate(raws, 1):
        earlier = first.setdefault(raw["id"], number)
        if earlier != number:
            findings.add(kind, f"{place(raw, number)} as entry {earlier}")


def _has(part: str, raw: Any, number: int, names: Sequence[str], findings: Findings) -> bool:
    """Whether an entry is an object with these fields; what is absent is noted."""
    if not isinstance(raw, dict):
        kind = Fault(f"entries of '{part}' that are no objects", _NO_OBJECT)
        findings.add(kind, f"entry {number} is {shown(raw)}")
        return False
    missing = [name for name in names if raw.get(name) is None]
    for name in missing:
        what = f"{part} without '{name}'"
        findings.add(Fault(what, f"expected {' and '.join(names)} in each"), place(raw, number))
    return not missing


def _whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_text(value: Any) -> TypeGuard[str]:
    """Text that can be written as UTF-8: JSON may hold halves of a character."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_line(value: Any) -> bool:
    """Text that shows something, without a line break or another control character."""
    return (
        _is_text(value)
        and bool(value.strip())
        and not any(unicodedata.category(letter) == "Cc" for letter in value)
    )


def _side(value: Any) -> int:
    """A side of an image in pixels; 0 where the file says none."""
    whole = _is_number(value) and value >= 1 and value == int(value)
    return int(value) if whole else 0


def _box(box: Four) -> str:
    return f"[{', '.join(f'{side:g}' for side in box)}]"


# Fields of an annotation whose value alone is looked at: (name, whether it is right, what else).
_VALUES = (
    ("bbox", _is_box, Fault("annotations whose bbox is not four finite numbers", _FOUR)),
    (
        "iscrowd",
        lambda value: value in (None, 0, 1),
        Fault("annotations whose iscrowd is neither 0 nor 1", "expected one of these"),
    ),
)

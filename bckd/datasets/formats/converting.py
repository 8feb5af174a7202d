"""A data set of another format as one of COCO's: found out, read, checked, written as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from tqdm.auto import tqdm

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.findings import Findings, Oddity
from bckd.datasets.formats import FORMATS
from bckd.datasets.formats.labelled import Box, LabelledImage, LabelledSet, Tree
from bckd.datasets.formats.splitting import PARTS, draw
from bckd.system.errors import InputError
from bckd.system.files import one_maker, whole_folder, write_atomically, writing
from bckd.system.telling import some, tell

CLIPPED = Oddity("boxes that reach beyond their image are clipped to it")
NO_AREA = Oddity("boxes without width or height, or outside their image, are left out")

_ROUNDING = 0.05  # pixels that a box may reach beyond its image without a word
_DIGITS = 3  # of coordinates in pixels, behind the point


@dataclass(frozen=True)
class Converted:
    """A data set that was written.

    Attributes:
        root: its folder, in the layout of the preset "custom".
        format: what it was, in words.
        parts: what stands in annotations/instances_PART.json, as it is read by all that follows.
    """

    root: Path
    format: str
    parts: dict[str, Annotations]


def convert(
    source: Path,
    out: Path,
    format: str | None = None,
    val_share: float = 0.2,
    progress: bool = True,
) -> Converted:
    """Write a data set of another format as one of COCO's.

    `out` then holds the images under train/, val/ and test/, of which those are there that the
    source has, and their boxes in annotations/instances_train.json and so on. An image is a hard
    link to its file where the disk allows it, else a copy. What is odd in the source is told.

    Args:
        source: its folder, or the file that describes it (data.yaml).
        out: absent, or an empty folder.
        format: a name of `FORMATS`; None: found out.
        val_share: of the training images, that become the part val where the source has none.
        progress: show bars.

    Raises:
        InputError: there is no such data set, something in it is wrong (all of which is told
            before), or `out` can't be written.
    """
    tree = _tree(source, progress)
    check_free(out)
    name = _found_out(tree) if format is None else format
    findings = Findings(source)
    labelled = _divided(FORMATS[name].read(tree, findings), val_share)
    refuse(findings)
    if not labelled.parts or not labelled.class_names:
        raise InputError(f"{source} has no {'object' if labelled.parts else 'image'} to convert")
    for number, name in enumerate(labelled.class_names):
        if not name.strip():
            raise InputError(f"{source}: class {number} has no name; expected one for each")
    place = Path(os.path.realpath(out))  # a link is followed
    with one_maker(place), writing(out), whole_folder(place) as folder:
        for part in labelled.parts:
            _write(labelled, part, folder, tree, findings, progress)
        parts = {part: _read(folder, part, out) for part in labelled.parts}
    findings.tell()
    for written in parts.values():
        written.findings.tell()
    return Converted(out, labelled.format, parts)


def _tree(source: Path, progress: bool) -> Tree:
    if not source.exists():
        raise InputError(f"{source} does not exist; expected the folder of a data set")
    if source.is_dir():
        return Tree(source, progress=progress)
    if source.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(
            f"{source} is a file; expected the folder of a data set (an archive unpacked), or the "
            f"data.yaml of one"
        )
    return Tree(source.parent, source, progress)


def check_free(out: Path) -> None:
    """Raise InputError where a folder to write holds something, or is a whole disk."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is there already, and stays as it is; name another folder")
    if not Path(os.path.realpath(out)).name:
        raise InputError(f"{out} can't be written: it is the whole disk; name a folder in it")


def _found_out(tree: Tree) -> str:
    """The format of a data set, by name."""
    found = [name for name, format in FORMATS.items() if format.is_in(tree)]
    if len(found) > 1:
        raise InputError(
            f"{tree.root} holds data of {' and of '.join(found)}; expected --format for one of them"
        )
    if not found:
        count = len(tree.images)
        raise InputError(
            f"{tree.root} holds no data set in a known format, in {len(tree.files)} files "
            f"({count} images); expected one of {', '.join(FORMATS)}: a data.yaml, a text file "
            f"for each image, or an XML file for each{_hint(tree)}"
        )
    return found[0]


def _hint(tree: Tree) -> str:
    if not any(path.suffix.lower() == ".json" for path in tree.files):
        return ""
    return " (COCO's own JSON needs no conversion: --data.root and --data.train-annotations say it)"


def refuse(findings: Findings) -> None:
    """Refuse a source for its faults, all of which are told where they are of several kinds."""
    sentences = [
        f"{findings.source}: {some(f'{kind.what} ({{}})', places)}; {kind.expected}"
        for kind, places in findings.faults.items()
    ]
    if len(sentences) == 1:
        raise InputError(sentences[0])
    if sentences:
        for sentence in sentences:
            tell(sentence)
        count = sum(map(len, findings.faults.values()))
        raise InputError(f"{findings.source} has {count} faults, told above; nothing is written")


def _divided(labelled: LabelledSet, val_share: float) -> LabelledSet:
    """The data set with a part val, and its parts in order."""
    parts = {part: labelled.parts[part] for part in PARTS if labelled.parts.get(part)}
    train = parts.get("train", [])
    if "val" not in parts and val_share and len(train) > 1:
        drawn, others = draw(train, val_share)
        parts = {"train": others, "val": drawn, **{x: parts[x] for x in parts if x != "train"}}
        tell(
            f"a part val is made of {len(drawn)} of {len(train)} training images, drawn by their "
            f"names (--val-share {val_share:g})"
        )
    return replace(labelled, parts={part: images for part, images in parts.items() if images})


def _annotations(root: Path, part: str) -> Path:
    return root / "annotations" / f"instances_{part}.json"


def _write(
    labelled: LabelledSet,
    part: str,
    folder: Path,
    tree: Tree,
    findings: Findings,
    progress: bool,
) -> None:
    """Write the images and the boxes of a part."""
    images = labelled.parts[part]
    names = _file_names([image.path for image in images])
    for image, name in tqdm(
        zip(images, names, strict=True), part, len(images), leave=False, disable=not progress
    ):
        _link(image.path, folder / part / name)
    content: dict[str, Any] = {
        "info": {"description": f"converted from {labelled.format}"},
        "licenses": [],
        "images": [
            {"id": number, "file_name": name, "width": image.width, "height": image.height}
            for number, (image, name) in enumerate(zip(images, names, strict=True), 1)
        ],
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(labelled.class_names, 1)
        ],
    }
    if part != "test" or any(image.label_file for image in images):
        content["annotations"] = _rows(images, labelled.entry, tree, findings)
    path = _annotations(folder, part)
    write_atomically(path, lambda file: file.write_bytes(msgspec.json.encode(content)))


def _read(folder: Path, part: str, out: Path) -> Annotations:
    """A part as everyone will read it, by the name that it will have.

    Raises:
        InputError: it can't be read, such as one with a class whose name doesn't show.
    """
    try:
        found = read_annotations(_annotations(folder, part), folder / part)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), str(out))) from error
    path = _annotations(out, part)
    return replace(found, path=path, findings=replace(found.findings, source=path))


def _file_names(paths: Sequence[Path]) -> list[str]:
    """Names below the folder that all have in common."""
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def _link(source: Path, target: Path) -> None:
    """Make a file be at another place too: linked where the disk allows it, else copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, one that has no links, a file that is not ours
        shutil.copyfile(source, target)


def _rows(
    images: Sequence[LabelledImage], entry: str, tree: Tree, findings: Findings
) -> list[dict[str, Any]]:
    """The annotations, each box within its image."""
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        for box in image.boxes:
            x1, y1, x2, y2 = _within(box, image)
            bbox = [round(side, _DIGITS) for side in (x1, y1, x2 - x1, y2 - y1)]
            beyond = max(x1 - box.x1, y1 - box.y1, box.x2 - x2, box.y2 - y2)
            if min(bbox[2:]) <= 0 or beyond > _ROUNDING:
                assert image.label_file is not None
                where = f"{tree.named(image.label_file)} {entry} {box.entry}"
                findings.add(CLIPPED if min(bbox[2:]) > 0 else NO_AREA, where)
            if min(bbox[2:]) > 0:
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": number,
                        "category_id": box.label + 1,
                        "bbox": bbox,
                        "area": round(bbox[2] * bbox[3], _DIGITS),
                        "iscrowd": int(box.crowd),
                    }
                )
    return rows


def _within(box: Box, image: LabelledImage) -> tuple[float, float, float, float]:
    return (
        max(box.x1, 0.0),
        max(box.y1, 0.0),
        min(box.x2, float(image.width)),
        min(box.y2, float(image.height)),
    )

"""An instances file whose images get other labels: which of them, and what is written of them.

All else that the file says stays: other fields of images and boxes, licences, masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bckd.datasets.annotations import Annotations, gather_annotations
from bckd.datasets.decoding import header_of
from bckd.datasets.entries import whole_number
from bckd.datasets.finding_images import find_images
from bckd.datasets.instances_file import lists_of
from bckd.system.errors import InputError
from bckd.system.files import read_json

# Images that are not labelled; those without a box too, as tools list what nobody has come to yet;
# or all, whose own boxes are put aside.
Which = Literal["unlabelled", "empty", "all"]


@dataclass(frozen=True)
class ToLabel:
    """Images that get other labels, beside those that keep theirs.

    Attributes:
        content: of the file as JSON has it, with the labels that stay; images to be labelled are
            marked as not labelled.
        annotations: what is read of it.
        labels: those that are known, to hold others against.
    """

    content: dict[str, Any]
    annotations: Annotations
    labels: Annotations

    def with_boxes(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The content once these annotations, without ids, are the labels of what had none."""
        images = [_without_mark(row) for row in self.content["images"]]
        kept = self.content["annotations"]
        first = _free_id(kept)
        new = [{"id": number, **row} for number, row in enumerate(rows, first)]
        return {**self.content, "images": images, "annotations": [*kept, *new]}


def images_to_label(
    folder: Path, file: Path | None, class_names: Sequence[str], which: Which, unlisted: bool
) -> ToLabel:
    """The images of a file; without one, those of a folder.

    Args:
        folder: of the images.
        file: COCO instances file.
        class_names: of a folder without a file.
        which: images of the file to label.
        unlisted: label those below the folder too that the file does not list.

    Raises:
        InputError: the file or the folder is at fault, or every image is labelled.
    """
    path = folder if file is None else file
    content = _new(class_names) if file is None else read_json(file)
    listed = [] if file is None else [*_read(content, path, folder).images]
    if file is None or unlisted:
        names = {image.file_name for image in listed}
        content = _with_images(content, folder, names)
    known = _read(content, path, folder)
    known.findings.tell()
    boxed = {known.images[n].id for n in known.truth.boxes.images.tolist()}
    chosen = {
        image.id
        for image in known.images
        if which == "all" or not (image.id in boxed if which == "empty" else image.labelled)
    }
    if not chosen:
        raise InputError(
            f"{path}: every image is labelled; expected some that are not (--which empty: those "
            f"without a box; all; --unlisted: those of the folder alone)"
        )
    kept = [] if which == "all" else content.get("annotations", [])
    images = [
        {**row, "labelled": False} if _id_of(row) in chosen else row for row in content["images"]
    ]
    content = {**content, "images": images, "annotations": kept}
    marked = _read(content, path, folder)
    labels = known if which == "all" else marked
    return ToLabel(content, marked, labels.labelled_alone())


def _read(content: Any, path: Path, folder: Path) -> Annotations:
    annotations = gather_annotations(lists_of(content, path), path, folder)
    annotations.findings.check()
    return annotations


def _new(class_names: Sequence[str]) -> dict[str, Any]:
    """A file of no image yet."""
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
    return {"images": [], "annotations": [], "categories": categories}


def _with_images(content: dict[str, Any], folder: Path, names: set[str]) -> dict[str, Any]:
    """The content with the images below a folder that are not among these names."""
    rows = [*content["images"]]
    for name, path in find_images([folder]).items():
        if name not in names:
            header = header_of(path)
            sides = {"width": header.width, "height": header.height}
            rows.append({"id": None, "file_name": name, **sides, "labelled": False})
    first = _free_id(rows)
    as_text = any(isinstance(row["id"], str) for row in rows)  # all are, or none
    for number, row in enumerate(rows[len(content["images"]) :], first):
        row["id"] = f"unlisted-{number}" if as_text else number
    return {**content, "images": rows}


def _free_id(rows: Sequence[dict[str, Any]]) -> int:
    """The first number that is above all ids."""
    return 1 + max((n for row in rows if (n := whole_number(row.get("id"))) is not None), default=0)


def _id_of(row: dict[str, Any]) -> int | str | None:
    """The id of an entry, as it is read."""
    identity = row.get("id")
    return identity if isinstance(identity, str) else whole_number(identity)


def _without_mark(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "labelled"}

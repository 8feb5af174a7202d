"""The command `bckd data convert`: YOLO's or Pascal VOC's files as a COCO data set."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from bckd.commands.parsing import parse
from bckd.system.errors import InputError
from bckd.system.telling import counted, first_of
from bckd.system.values import BelowOne, Place, checked

if TYPE_CHECKING:
    from bckd.datasets.annotations import Annotations


@dataclass(frozen=True)
class ConvertOptions:
    """Write a data set of YOLO's text files or Pascal VOC's XML as one in COCO's format.

    All its parts at once. Images are linked to, or copied where the disk has no links; the source
    stays as it is.
    """

    source: Annotated[tyro.conf.Positional[Place | None], tyro.conf.arg(metavar="SOURCE")] = None
    """folder of the data set, or its data.yaml"""
    out: Place = Path("data/custom")
    """folder to write"""
    format: Literal["yolo", "voc"] | None = None
    """of the source; None: found out"""
    val_share: BelowOne = 0.2
    """share of the training images that becomes the part val where the source has none"""


def run(arguments: list[str]) -> None:
    """Convert a data set, and say what came of it."""
    options = checked(parse(ConvertOptions, arguments, "data convert"))
    if options.source is None:
        raise InputError("bckd data convert needs the folder of a data set, or its data.yaml")
    from bckd.datasets.formats.converting import convert  # late: no help and no typo needs it

    found = convert(options.source, options.out, options.format, options.val_share)
    print(f"{found.format} from {options.source}:")
    for part, written in found.parts.items():
        print(f"  {part:5} {_counts(written)}")
    names = next(iter(found.parts.values())).class_names
    print(f"  {counted(len(names), 'class', 'es')}: {first_of([*names])}")
    print(f"in COCO's format in {found.root}; next:")
    for line in _next(found.root, set(found.parts)):
        print(f"  {line}")


def _counts(part: Annotations) -> str:
    """What a part has, in words."""
    images = len(part.images)
    if not part.labelled:
        return f"{counted(images, 'image')} without labels"
    crowd = part.truth.boxes.crowd
    regions = f", {counted(crowd.sum(), 'crowd region')}" if crowd.any() else ""
    empty = images - len(set(part.truth.boxes.images.tolist()))
    without = f" ({empty} of the images without)" if empty else ""
    return f"{counted(images, 'image')}, {counted((~crowd).sum(), 'box', 'es')}{regions}{without}"


def _next(root: Path, parts: set[str]) -> list[str]:
    """Commands to go on with."""
    place = shlex.quote(str(root))
    lines = []
    if {"train", "val"} <= parts:
        lines.append(f"bckd data check {place}")
    if "test" in parts:
        test = "--data.val-images test --data.val-annotations annotations/instances_test.json"
        lines.append(f"bckd eval runs/custom --data.root {place} {test}")
    return lines

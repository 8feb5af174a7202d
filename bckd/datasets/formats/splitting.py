"""Which part of a data set an image is in: by the folders that it lies in, or drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TypeVar

from bckd.datasets.formats.labelled import LabelledImage

_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# train, train2017, train_images, images_train
_FOLDER = re.compile(
    rf"(?:images?[_-])?({'|'.join(_WORDS)})(?:[_-]?(?:images?|set|data|\d{{4}}))?", re.IGNORECASE
)
PARTS = ("train", "val", "test")

T = TypeVar("T")


def part_called(name: str) -> str | None:
    """The part that a folder, a list or a key of this name is of, if any."""
    found = _FOLDER.fullmatch(name)
    return None if found is None else _WORDS[found[1].lower()]


def part_of(path: PurePath, root: PurePath) -> str | None:
    """The part of a file, by the first folder below the root that names one."""
    folders = path.relative_to(root).parts[:-1]
    return next(filter(None, map(part_called, folders)), None)


def by_folders(paths: Sequence[Path], root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """The parts by folders, and what is in none; where no folder names one, all is "train"."""
    parts: dict[str, list[Path]] = {}
    others = []
    for path in paths:
        part = part_of(path, root)
        if part is None:
            others.append(path)
        else:
            parts.setdefault(part, []).append(path)
    return (parts, others) if parts else ({"train": others} if others else {}, [])


def draw(
    images: Sequence[LabelledImage], share: float
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """A share of images, and the others, both in their order.

    The hashes of their names decide, so that each stays in its part on any machine and, mostly,
    when images are added. Copies that Roboflow made of one image (name.rf.HASH) stay together.

    Args:
        share: from 0 to below 1; at least one image is drawn, where it is above 0, and one left.
    """
    kin: dict[str, list[LabelledImage]] = {}
    for image in images:
        kin.setdefault(image.path.name.partition(".rf.")[0], []).append(image)
    wanted = max(1, round(share * len(images))) if share else 0
    drawn: set[Path] = set()
    for name in sorted(kin, key=lambda name: sha256(name.encode("utf-8", "replace")).digest())[1:]:
        if len(drawn) >= wanted:
            break
        drawn.update(image.path for image in kin[name])
    return (
        [image for image in images if image.path in drawn],
        [image for image in images if image.path not in drawn],
    )

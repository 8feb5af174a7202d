"""What a data set in any format comes to: images in parts, with boxes in pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from bckd.datasets.decoding import Header, header_of
from bckd.datasets.findings import Findings
from bckd.datasets.image_files import UNUSABLE
from bckd.system.errors import InputError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"}  # endings
_TOGETHER = 8  # files looked at at once


class Box(NamedTuple):
    """A box of a label file.

    Attributes:
        label: its class, from 0 on.
        x1, y1, x2, y2: in pixels of the image as it is shown; they may lie outside.
        crowd: neither to learn nor to find.
        entry: its line or object in the file, from 1 on.
    """

    label: int
    x1: float
    y1: float
    x2: float
    y2: float
    crowd: bool
    entry: int


@dataclass(frozen=True)
class LabelledImage:
    """An image file and its boxes.

    Attributes:
        width, height: in pixels, turned as its EXIF orientation says.
        label_file: None where it has none.
    """

    path: Path
    width: int
    height: int
    label_file: Path | None
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class LabelledSet:
    """A data set.

    Attributes:
        format: what it is, in words.
        entry: what a label file consists of, in a word.
        parts: "train", "val", "test", of which those are there that the source names; images
            that it does not divide are "train".
    """

    format: str
    entry: str
    class_names: tuple[str, ...]
    parts: dict[str, list[LabelledImage]]


@dataclass(frozen=True)
class Tree:
    """The files below a folder, in the order of their names, but for hidden ones.

    Attributes:
        given: a file of the folder that the user named, such as one of several data.yaml.
        progress: show a bar where files are looked at.
    """

    root: Path
    given: Path | None = None
    progress: bool = True

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files below the root."""
        return tuple(files_below(self.root))

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """Those of them that are images, by their names."""
        return tuple(path for path in self.files if is_image(path))

    def named(self, path: Path) -> str:
        """A path for messages, without the root that they begin with."""
        return path.relative_to(self.root).as_posix() if self.holds(path) else str(path)

    def holds(self, path: Path) -> bool:
        """Whether a path is below the root."""
        return path.is_relative_to(self.root)

    def headers(self, images: Sequence[Path], findings: Findings) -> dict[Path, Header]:
        """What the image files say before their pixels; those that say nothing are noted."""
        found = {}
        with ThreadPoolExecutor(_TOGETHER) as pool:
            looks = pool.map(_look, images)
            bar = tqdm(looks, "images", len(images), leave=False, disable=not self.progress)
            for path, look in zip(images, bar, strict=True):
                if isinstance(look, Header):
                    found[path] = look
                else:
                    findings.add(UNUSABLE, look.removeprefix("image "))
        return found


def files_below(folder: Path) -> Iterator[Path]:
    """All files, by name; links to folders are followed, once. macOS's and hidden ones are not."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(x for x in folders if not x.startswith(".") and x != "__MACOSX")
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether a file is an image by the ending of its name."""
    return path.suffix.lower() in IMAGES


def text_of(path: Path) -> str:
    """A text file; a byte order mark at its start is passed over.

    Raises:
        InputError: it is not UTF-8, or can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else "can't be read"
        raise InputError(f"{path} {why}") from error


def _look(path: Path) -> Header | str:
    try:
        return header_of(path)
    except InputError as error:
        return str(error)

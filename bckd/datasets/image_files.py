"""A look at all image files of a data set before any of them is needed.

A file that is absent, no image, cut short or of another size is met here, not by the step that
draws it. Pixels of JPEG and PNG are decoded only on demand: without, this takes a tenth of a
millisecond an image where the disk has it at hand, about 20 seconds for COCO's 118 thousand. What
only decoding shows is told then.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bckd.datasets.decoding import Header, decode_image, header_of
from bckd.datasets.entries import ImageEntry
from bckd.datasets.findings import Fault, Findings
from bckd.system.errors import InputError, reason
from bckd.system.nearest import absent

_TOGETHER = 8  # files looked at at once
_TAIL = 4096  # bytes of a file's end
# What files of a kind end with; b"" where Pillow opens none that is cut short. Others are decoded.
_ENDS = {
    "JPEG": b"\xff\xd9",
    "MPO": b"\xff\xd9",
    "PNG": b"IEND\xaeB\x60\x82",
    "GIF": b";",
    "WEBP": b"",
    "AVIF": b"",
}
_MOST_NAMES = 200_000  # that are searched for a file that is not where it should be

ABSENT = "image files that are listed but absent"
UNUSABLE = Fault("image files that can't be used", "mend or replace them, or delete their entries")
OTHER_SIZE = Fault(
    "image files of another size than listed",
    "expected width, height and boxes of the image as it is shown, turned by its EXIF orientation",
)


@dataclass(frozen=True)
class ImageFile:
    """An image file that was looked at.

    Attributes:
        orientation: by EXIF; 1 where the pixels are stored upright.
        mark: length and checksum of the end; those of equal files are equal.
        pixels: a hash of size and pixels; None: they were not decoded.
    """

    path: Path
    orientation: int
    mark: tuple[int, int]
    pixels: bytes | None = None


def look_at_files(folder: Path, images: Sequence[ImageEntry], source: Path) -> list[ImageFile]:
    """Look at every listed image.

    Args:
        source: the annotation file, for messages.

    Raises:
        InputError: the folder or images are absent, or can't be used, all of one kind together.
    """
    findings = Findings(source)
    files = gather_files(folder, images, findings)
    findings.check()
    return files


def gather_files(
    folder: Path, images: Sequence[ImageEntry], findings: Findings, decode: bool = False
) -> list[ImageFile]:
    """As `look_at_files`, those that can be used; the others are noted.

    Args:
        decode: decode all pixels, with a bar on a terminal.

    Raises:
        InputError: the folder is absent.
    """
    if not folder.is_dir():
        raise InputError(absent(f"image folder {folder}", folder))
    present = _present(folder, images, findings)
    # Threads: Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(_TOGETHER) as pool:
        looks = pool.map(lambda image: look_at_file(folder, image, decode), present)
        bar = tqdm(looks, folder.name, len(present), disable=None if decode else True, leave=False)
        found = list(bar)
    files = []
    for look in found:
        if isinstance(look, ImageFile):
            files.append(look)
        else:
            findings.add(*look)
    return files


def _present(
    folder: Path, images: Sequence[ImageEntry], findings: Findings
) -> Sequence[ImageEntry]:
    """The images that are there; the others are noted."""
    names = set(os.listdir(folder))
    absent = [
        image.file_name
        for image in images
        if image.file_name not in names and not os.path.exists(folder / image.file_name)
    ]
    if not absent:
        return images
    gone = set(absent)
    kind = Fault(ABSENT, _where_they_lie(folder, absent))
    findings.add(kind, *(str(folder / name) for name in absent))
    return [image for image in images if image.file_name not in gone]


def _where_they_lie(folder: Path, absent: Sequence[str]) -> str:
    """Which folders hold files of the base names of some absent ones, in words."""
    wanted = {name.replace("\\", "/").rpartition("/")[2] for name in absent}
    for root in (folder, folder.parent):
        walk = ((Path(place), name) for place, _, names in os.walk(root) for name in names)
        found = {str(place) for place, name in islice(walk, _MOST_NAMES) if name in wanted}
        if found:
            *others, last = sorted(found)[:3]
            places = f"{', '.join(others)} and {last}" if others else last
            return f"files of such names lie in {places}: expected file_name relative to {folder}"
    stems = {_stem(name) for name in wanted}
    alike = next((name for name in sorted(os.listdir(folder)) if _stem(name) in stems), None)
    other = (
        "" if alike is None else f"names differ by case, spaces or ending (there is {alike!r}); "
    )
    return f"{other}expected file_name relative to {folder}"


def _stem(name: str) -> str:
    return Path(name.strip()).stem.strip().casefold()


def look_at_file(
    folder: Path, image: ImageEntry, decode: bool = False
) -> ImageFile | tuple[Fault, str]:
    """What a look at a file shows, or its kind of fault and the sentence for it.

    Args:
        decode: decode its pixels, whatever kind of file it is.
    """
    path = folder / image.file_name
    try:
        header = header_of(path)
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(length - _TAIL, 0))
            tail = file.read()
        end = _ENDS.get(header.format or "")
        pixels = None
        if decode:
            pixels = _hash(decode_image(path))
        elif end is None or not tail.endswith(end):
            decode_image(path)  # cut short, or something stands behind the image
    except InputError as error:
        return UNUSABLE, str(error).removeprefix("image ")
    except OSError as error:
        return UNUSABLE, f"{path} {reason(error)}"
    if (header.width, header.height) != (image.width, image.height):
        return OTHER_SIZE, _sizes(path, header, image)
    return ImageFile(path, header.orientation, (length, zlib.crc32(tail)), pixels)


def _hash(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(
        pixels.data, digest_size=16, person=str(pixels.shape[:2]).encode()
    ).digest()


def _sizes(path: Path, header: Header, image: ImageEntry) -> str:
    turned = f", turned by its EXIF orientation {header.orientation}"
    return (
        f"{path} is {header.width}x{header.height} pixels"
        f"{turned if header.orientation != 1 else ''}, listed as {image.width}x{image.height}"
    )


def repeated(files: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    """(file, an earlier one that is equal) for every file that has one.

    Equal are files, or pixels where they were decoded.
    """
    pairs: list[tuple[Path, Path]] = []
    earlier: dict[object, list[ImageFile]] = {}
    for file in files:
        same = earlier.setdefault(_key(file), [])
        pairs += _pair(file, same)
        same.append(file)
    return pairs


def shared(files: Sequence[ImageFile], others: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    """(file, one of the others that is equal) for every file that has one; see `repeated`."""
    by_key: dict[object, list[ImageFile]] = {}
    for other in others:
        by_key.setdefault(_key(other), []).append(other)
    return [pair for file in files for pair in _pair(file, by_key.get(_key(file), []))]


def _key(file: ImageFile) -> object:
    """What is the same for equal files."""
    return file.mark if file.pixels is None else file.pixels


def _pair(file: ImageFile, alike: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    for other in alike:
        if (
            file.pixels is not None
            or file.path == other.path
            or filecmp.cmp(file.path, other.path, shallow=False)
        ):
            return [(file.path, other.path)]
    return []

"""A look at all image files of a data set before any of them is needed.

A file that is absent, no image, cut short or of another size is met here, not by the step that
draws it. Pixels of JPEG and PNG are not decoded: this takes a tenth of a millisecond an image
where the disk has it at hand, about 20 seconds for COCO's 118 thousand. What only decoding shows
is told then.
"""

from __future__ import annotations

import filecmp
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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
    """

    path: Path
    orientation: int
    mark: tuple[int, int]


def look_at_files(folder: Path, images: Sequence[ImageEntry], source: Path) -> list[ImageFile]:
    """Look at every listed image.

    Args:
        source: the annotation file, for messages.

    Raises:
        InputError: the folder or images are absent, or can't be used, all of one kind together.
    """
    if not folder.is_dir():
        raise InputError(absent(f"image folder {folder}", folder))
    findings = Findings(source)
    _check_present(folder, images, findings)
    with ThreadPoolExecutor(_TOGETHER) as pool:
        found = list(pool.map(lambda image: look_at_file(folder, image), images))
    files = []
    for look in found:
        if isinstance(look, ImageFile):
            files.append(look)
        else:
            findings.add(*look)
    findings.check()
    return files


def _check_present(folder: Path, images: Sequence[ImageEntry], findings: Findings) -> None:
    present = set(os.listdir(folder))
    absent = [
        image.file_name
        for image in images
        if image.file_name not in present and not os.path.exists(folder / image.file_name)
    ]
    if not absent:
        return
    kind = Fault(ABSENT, _where_they_lie(folder, absent))
    for name in absent:
        findings.add(kind, str(folder / name))
    findings.check()


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


def look_at_file(folder: Path, image: ImageEntry) -> ImageFile | tuple[Fault, str]:
    """What a look at a file shows, or its kind of fault and the sentence for it."""
    path = folder / image.file_name
    try:
        header = header_of(path)
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(length - _TAIL, 0))
            tail = file.read()
        end = _ENDS.get(header.format or "")
        if end is None or not tail.endswith(end):
            decode_image(path)  # cut short, or something stands behind the image
    except InputError as error:
        return UNUSABLE, str(error).removeprefix("image ")
    except OSError as error:
        return UNUSABLE, f"{path} {reason(error)}"
    if (header.width, header.height) != (image.width, image.height):
        return OTHER_SIZE, _sizes(path, header, image)
    return ImageFile(path, header.orientation, (length, zlib.crc32(tail)))


def _sizes(path: Path, header: Header, image: ImageEntry) -> str:
    turned = f", turned by its EXIF orientation {header.orientation}"
    return (
        f"{path} is {header.width}x{header.height} pixels"
        f"{turned if header.orientation != 1 else ''}, listed as {image.width}x{image.height}"
    )


def repeated(files: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    """(file, an earlier one that is equal) for every file that has one."""
    pairs: list[tuple[Path, Path]] = []
    earlier: dict[tuple[int, int], list[ImageFile]] = {}
    for file in files:
        same_mark = earlier.setdefault(file.mark, [])
        pairs += _pair(file, same_mark)
        same_mark.append(file)
    return pairs


def shared(files: Sequence[ImageFile], others: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    """(file, one of the others that is equal) for every file that has one."""
    by_mark: dict[tuple[int, int], list[ImageFile]] = {}
    for other in others:
        by_mark.setdefault(other.mark, []).append(other)
    return [pair for file in files for pair in _pair(file, by_mark.get(file.mark, []))]


def _pair(file: ImageFile, same_mark: Sequence[ImageFile]) -> list[tuple[Path, Path]]:
    for other in same_mark:
        if file.path == other.path or filecmp.cmp(file.path, other.path, shallow=False):
            return [(file.path, other.path)]
    return []

"""Zip archives of a data set, unpacked whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from tqdm.auto import tqdm

from bckd.system.errors import InputError, reason
from bckd.system.files import writing

_PLAIN = re.compile(r"\w[\w.-]{0,199}", re.ASCII)  # a name that leads nowhere else, on any system
_CHUNK = 1 << 20  # bytes


def check_space(folder: Path, wanted: int, what: str) -> None:
    """Refuse what the disk of a folder has no room for.

    Raises:
        InputError: there are fewer free bytes than `wanted`.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < wanted:
        sizes = f"{wanted / 1e9:.1f} GB of free space, {place} has {free / 1e9:.1f} GB"
        raise InputError(f"{what} takes {sizes}; make room or name another folder")


def unpack(archive: Path, folder: Path, progress: bool = True) -> None:
    """Unpack a zip archive, which holds a folder of this name and nothing else, to `folder`.

    Args:
        folder: it is not there yet; it comes as a whole.
        progress: show a bar.

    Raises:
        InputError: the archive is damaged, or holds a file that would lie elsewhere or a link, or
            the disk has no room.
    """
    part = folder.with_name(f".{folder.name}.unpacked")
    try:
        with writing(folder), zipfile.ZipFile(archive) as opened:
            shutil.rmtree(part, ignore_errors=True)  # of a call that was broken off
            files = [x for x in opened.infolist() if not x.is_dir()]
            places = [part.joinpath(*_place(x, folder.name)) for x in files]
            size = sum(x.file_size for x in files)
            check_space(folder, size, f"{archive}, unpacked,")
            part.mkdir(parents=True)
            bar = tqdm(desc=folder.name, total=size, disable=not progress, **_BAR)
            with bar:
                for file, place in zip(files, places, strict=True):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(file) as source, place.open("xb") as target:
                        _copy(source, target, bar)
            os.replace(part, folder)
    except _DAMAGED as error:
        raise InputError(f"{archive} can't be unpacked: {reason(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


_BAR = {"unit": "B", "unit_scale": True, "leave": False}
# No archive, damaged, packed in a way that Python can't read, encrypted.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    UnicodeDecodeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def _copy(source: IO[bytes], target: IO[bytes], bar: tqdm[None]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        bar.update(len(chunk))


def _place(file: zipfile.ZipInfo, folder: str) -> list[str]:
    """Where a file of the archive lies below the folder.

    Raises:
        BadZipFile: elsewhere, or it is a link.
    """
    first, *others = file.orig_filename.split("/")
    link = stat.S_ISLNK(file.external_attr >> 16)
    if first != folder or not others or link or not all(map(_PLAIN.fullmatch, others)):
        raise zipfile.BadZipFile(
            f"it holds {file.orig_filename!r}{', a link' * link}; expected files below {folder}/"
        )
    return others

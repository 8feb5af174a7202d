"""Which image files are meant by files, folders and patterns, and what to call each of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from bckd.system.errors import InputError
from bckd.system.telling import tell_some

# By their names, of the files in a folder; a file that is named itself may have any.
IMAGES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .ppm .pgm .pbm .mpo .jp2".split()
)
VIDEOS = frozenset(".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv".split())


def find_images(named: Sequence[Path]) -> dict[str, Path]:
    """The image files that are meant, in order, by a name each.

    A name is the path below the deepest folder that holds all of them, with /: so images of one
    name in two folders have two. Folders are gone through with all that lies below them, but for
    hidden files. A file that does not exist is one of those found: it is for its reader to say.

    Args:
        named: files; folders; patterns with *, ** or ?, where a shell has not resolved them.

    Raises:
        InputError: nothing fits a pattern, a folder holds no image, or a file is a video.
    """
    found: list[Path] = []
    homes: list[PurePath] = []  # folders of what was named
    for each in named:
        for path in _resolved(each):
            if path.is_dir():
                found += _below(path)
                homes.append(_whole(path))
            else:
                _check_still(path)
                found.append(path)
                homes.append(_whole(path).parent)
    paths = {_whole(path): path for path in found}  # each once
    return dict(zip(names_below(homes, list(paths)), paths.values(), strict=True))


def names_below(homes: Sequence[PurePath], paths: Sequence[PurePath]) -> list[str]:
    """What paths are called below the deepest folder that holds all homes.

    Args:
        homes, paths: absolute ones.
    """
    shared = len(os.path.commonprefix([home.parts for home in homes]))
    below = [path.parts[shared:] for path in paths]
    # Of paths on several drives nothing is shared: a drive is a folder then.
    return ["/".join(part.strip(":\\/") for part in parts).lstrip("/") for parts in below]


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _resolved(named: Path) -> Iterator[Path]:
    """A file or folder, or those that fit a pattern."""
    if named.exists() or not glob.has_magic(str(named)):
        yield named
        return
    matches = sorted(glob.glob(str(named), recursive=True))
    if not matches:
        raise InputError(f"no file fits {named}")
    yield from map(Path, matches)


def _below(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    images = [path for path in files if path.suffix.lower() in IMAGES]
    if not images:
        raise InputError(
            f"{folder} holds no image: of {len(files)} files none ends as images do (.jpg, .png)"
        )
    others = [path.name for path in files if path.suffix.lower() not in IMAGES]
    tell_some(f"{folder}: files that do not end as images do are left out ({{}})", others)
    return images


def _check_still(path: Path) -> None:
    if path.suffix.lower() in VIDEOS:
        raise InputError(
            f"{path} is a video; expected images: write its frames first "
            f"(ffmpeg -i {path.name} frames/%06d.jpg)"
        )

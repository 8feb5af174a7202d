"""COCO 2017 from its server to a folder, and whether a copy of it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from bckd.datasets.annotations import read_annotations
from bckd.datasets.entries import ImageEntry
from bckd.datasets.image_files import ImageFile, look_at_file
from bckd.datasets.unpacking import check_space, unpack
from bckd.system.downloads import download_on
from bckd.system.errors import InputError
from bckd.system.files import one_writer, reading
from bckd.system.telling import tell

SERVER = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """A zip archive of one folder of the data set.

    Attributes:
        folder: its name.
        holds: what has to be there once it is unpacked, below the root.
        size: bytes.
        md5: in hex.
        unpacked: bytes of its files, about.
    """

    url: str
    folder: str
    holds: tuple[str, ...]
    size: int
    md5: str
    unpacked: int

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


# Images and the list of them, below the root: the layout of `bckd.recipes.DataConfig`.
PARTS = {
    "train2017": "annotations/instances_train2017.json",
    "val2017": "annotations/instances_val2017.json",
}
# Sizes and checksums are those of public download scripts, not held against the server. The
# small one comes first.
ARCHIVES = (
    Archive(
        f"{SERVER}/annotations/annotations_trainval2017.zip",
        "annotations",
        tuple(PARTS.values()),
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
        850_000_000,
    ),
    Archive(
        f"{SERVER}/zips/val2017.zip",
        "val2017",
        ("val2017",),
        815_585_330,
        "442b8da7639aecaf257c1dceb8ba8c80",
        820_000_000,
    ),
    Archive(
        f"{SERVER}/zips/train2017.zip",
        "train2017",
        ("train2017",),
        19_336_861_798,
        "cced6f7f71b7629ddf16f17bbcfab6b2",
        19_400_000_000,
    ),
)


def fetch_coco(root: Path, archives: Sequence[Archive] = ARCHIVES, progress: bool = True) -> None:
    """Fetch what is not there yet of COCO 2017, and unpack it; the archives are removed then.

    A call that was broken off is gone on from. A folder that is there stays as it is.

    Args:
        progress: show bars.

    Raises:
        InputError: the disk has no room, a download fails, an archive is not the published one or
            is damaged, or a folder is there without what it should hold.
    """
    with one_writer(root):
        absent = [archive for archive in archives if not _is_there(archive, root)]
        check_space(root, _most_bytes(absent, root), f"COCO in {root}")
        for archive in absent:
            path = root / archive.name
            check = partial(_fault, archive)
            if not path.exists():
                download_on(archive.url, path, archive.size, check, progress)
            elif fault := check(path):
                raise InputError(f"{path} is not the published one ({fault}); delete it")
            unpack(path, root / archive.folder, progress)
            _check_unpacked(archive, root)
            path.unlink()


def _is_there(archive: Archive, root: Path) -> bool:
    if not (root / archive.folder).exists():
        return False
    _check_unpacked(archive, root)
    tell(f"{root / archive.folder} is there; `bckd data coco --verify` looks whether it is whole")
    return True


def _check_unpacked(archive: Archive, root: Path) -> None:
    for name in archive.holds:
        if not (root / name).exists():
            raise InputError(
                f"{root / archive.folder} is there without {root / name}; move it away, and "
                f"`bckd data coco` fetches it"
            )


def _most_bytes(archives: Sequence[Archive], root: Path) -> int:
    """What the disk has to hold at most on the way, beside what is there."""
    most = unpacked = 0
    for archive in archives:
        files = (root / archive.name, root / f"{archive.name}.part")
        came = sum(file.stat().st_size for file in files if file.exists())
        unpacked += archive.unpacked
        most = max(most, unpacked + max(archive.size - came, 0))
    return most


def _fault(archive: Archive, path: Path) -> str | None:
    """What tells a file from the published one, if anything."""
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        if size != archive.size:
            return f"it has {size} bytes, expected {archive.size}"
        new = partial(hashlib.md5, usedforsecurity=False)
        found = hashlib.file_digest(file, new).hexdigest()
    return None if found == archive.md5 else f"its MD5 is {found}, expected {archive.md5}"


def faults_of_copy(root: Path, progress: bool = True) -> Iterator[str]:
    """All that is wrong with a copy of COCO 2017: annotations, and images that they list.

    Every image is decoded.

    Args:
        progress: show bars.
    """
    for folder, listing in PARTS.items():
        try:
            images = read_annotations(root / listing, root / folder).images
        except InputError as error:
            yield str(error)
            continue
        with ThreadPoolExecutor() as pool:
            found = pool.map(partial(_fault_of_image, root / folder), images)
            yield from filter(None, tqdm(found, folder, len(images), disable=not progress))


def _fault_of_image(folder: Path, image: ImageEntry) -> str | None:
    path = folder / image.file_name
    if not path.exists():
        return f"{path} is missing"
    seen = look_at_file(folder, image, decode=True)
    return None if isinstance(seen, ImageFile) else seen[1]

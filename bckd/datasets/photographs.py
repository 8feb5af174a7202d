"""A few photographs of COCO with their boxes, without the 1.2 GB that all of them take.

The images come one by one; of the archive of annotations only the part that holds
val2017 is asked for.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from bckd.datasets.decoding import decode_image, header_of
from bckd.system.downloads import FAILURES, Limited, download, why
from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.system.files import check_writable, parse_json, write_json

with extra("notebooks", "fetching photographs of COCO"):
    from remotezip import RemoteZip, RemoteZipError

# COCO's own bucket; by images.cocodataset.org it has no certificate of its name.
SERVER = "https://s3.amazonaws.com/images.cocodataset.org"
ARCHIVE = "annotations/annotations_trainval2017.zip"
ANNOTATIONS = "annotations/instances_val2017.json"
IMAGES = "val2017"
LARGEST_IMAGE = 10_000_000  # bytes; COCO's largest is below one million
LARGEST_ANNOTATIONS = 100_000_000  # bytes once unpacked; COCO's are 20 million
AT_ONCE = 8  # connections


def fetch_photographs(root: Path, count: int, server: str = SERVER, progress: bool = True) -> None:
    """The first photographs of COCO val2017 by id, in COCO's own layout under `root`.

    What is there is not fetched again; the annotations are written last, so that where
    they are, the images are. The annotations hold boxes, areas and crowd flags, no masks.

    Args:
        root: a folder of its own: its annotations list these photographs alone.
        count: how many.
        server: address that `annotations/` and `val2017/` are below.

    Raises:
        InputError: the server can't be reached, or sends something else.
    """
    if (root / ANNOTATIONS).is_file():
        return
    check_writable(root / ANNOTATIONS)
    chosen = _first_annotations(server, count)
    folder = root / IMAGES
    missing = [entry for entry in chosen["images"] if not (folder / entry["file_name"]).is_file()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = pool.map(lambda entry: _fetch_image(entry, folder, server), missing)
        for _ in tqdm(fetched, "photographs", len(missing), leave=False, disable=not progress):
            pass
    write_json(root / ANNOTATIONS, chosen)


def _first_annotations(server: str, count: int) -> dict[str, Any]:
    url = f"{server}/{ARCHIVE}"
    try:
        with RemoteZip(url, session=Limited(LARGEST_ANNOTATIONS)) as archive:
            size = archive.getinfo(ANNOTATIONS).file_size  # a few bytes can unpack to any number
            if size > LARGEST_ANNOTATIONS:
                raise ValueError(
                    f"{size} bytes once unpacked, expected {LARGEST_ANNOTATIONS} or less"
                )
            content = archive.read(ANNOTATIONS)
        return _first(parse_json(content, ANNOTATIONS), count)
    # No archive, none of this name, encrypted, packed in a way that Python can't read, or entries
    # without what COCO's have.
    except (
        *FAILURES,
        RemoteZipError,
        zipfile.BadZipFile,
        zlib.error,
        LookupError,
        TypeError,
        RuntimeError,
    ) as error:
        raise InputError(f"{ANNOTATIONS} could not be read from {url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args and "archive" not in str(error):
        return f"field {error} is missing"
    return why(error)


def _first(annotations: dict[str, Any], count: int) -> dict[str, Any]:
    """The images with the lowest ids, their objects without masks, and all categories."""
    images = sorted(annotations["images"], key=lambda image: image["id"])[:count]
    for image in images:
        _check_entry(image)
    ids = {image["id"] for image in images}
    objects = [
        {key: value for key, value in entry.items() if key != "segmentation"}
        for entry in annotations["annotations"]
        if entry["image_id"] in ids
    ]
    return {
        "images": images,
        "annotations": objects,
        "categories": annotations["categories"],
        "licenses": annotations.get("licenses", []),
    }


def _check_entry(entry: dict[str, Any]) -> None:
    """A name is a path that is written to and a part of an address: COCO's own are plain.

    Raises:
        ValueError: it is another, or there is no size.
    """
    name, sides = entry["file_name"], (entry["width"], entry["height"])
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]{0,99}\.\w{1,9}", name, re.ASCII):
        raise ValueError(f"image {entry['id']} has file_name {name!r}; expected a plain name")
    if not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"image {entry['id']} has size {sides}; expected two numbers of pixels")


def _fetch_image(entry: dict[str, Any], folder: Path, server: str) -> None:
    """Download one image, and see that it is one, of the size that its entry says.

    COCO publishes no hashes of single images, so more can't be checked.
    """
    name, listed = entry["file_name"], f"{entry['width']}x{entry['height']}"

    def fault(part: Path) -> str | None:
        """What is wrong with the image in a file; None: nothing."""
        try:
            header = header_of(part)  # before its pixels, which it can claim any number of
            if (found := f"{header.width}x{header.height}") != listed:
                return f"it is {found} pixels, listed as {listed}"
            decode_image(part)
        except InputError as error:
            return str(error).replace(f"image {part}", "it")
        return None

    url = f"{server}/{IMAGES}/{name}"
    download(url, folder / name, LARGEST_IMAGE, fault, progress=False)

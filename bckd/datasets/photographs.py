"""A few photographs of COCO with their boxes, without the 1.2 GB that all of them take.

The images come one by one; of the archive of annotations only the part that holds
val2017 is asked for.
"""

from __future__ import annotations

import re
import time
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from remotezip import RemoteZip, RemoteZipError
from tqdm.auto import tqdm

from bckd.errors import InputError, reason
from bckd.files import check_writable, parse_json, write_atomically, write_json

# COCO's own bucket; by images.cocodataset.org it has no certificate of its name.
SERVER = "https://s3.amazonaws.com/images.cocodataset.org"
ARCHIVE = "annotations/annotations_trainval2017.zip"
ANNOTATIONS = "annotations/instances_val2017.json"
IMAGES = "val2017"
SECONDS = 60  # without an answer, after which the server counts as gone
SLOWEST = 10_000  # bytes a second on average that it may send after them
LARGEST_IMAGE = 10_000_000  # bytes; COCO's largest is below one million
LARGEST_ANNOTATIONS = 100_000_000  # bytes once unpacked; COCO's are 20 million
AT_ONCE = 8  # connections
_PART = 256  # bytes that are waited for, so that a slow server is noticed
_IMAGE_PART = 16  # the same of an image


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
        with RemoteZip(url, timeout=SECONDS) as archive, archive.open(ANNOTATIONS) as file:
            # Read by parts: a few bytes can unpack to any number.
            content = _joined(iter(lambda: file.read(_PART), b""), LARGEST_ANNOTATIONS)
        return _first(parse_json(content, ANNOTATIONS), count)
    # No server or archive, none of this name, encrypted, packed in a way that Python can't read,
    # or entries without what COCO's have.
    except (
        RemoteZipError,
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        OSError,
    ) as error:
        raise InputError(f"{ANNOTATIONS} could not be read from {url}: {_reason(error)}") from error


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
    path, url = folder / entry["file_name"], f"{server}/{IMAGES}/{entry['file_name']}"
    expected = (entry["width"], entry["height"])

    def write(part: Path) -> None:
        try:
            part.write_bytes(_download(url))
            with Image.open(part, formats=("JPEG", "PNG")) as image:
                size = image.size  # before its pixels, which a header can claim any number of
                if size == expected:
                    image.load()
        except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise InputError(f"{url} could not be fetched as an image: {_reason(error)}") from error
        if size != expected:
            raise InputError(f"{url} is {size} pixels; its annotation says {expected}")

    write_atomically(path, write)


def _download(url: str) -> bytes:
    with requests.get(url, timeout=SECONDS, stream=True) as answer:
        answer.raise_for_status()
        return _joined(answer.iter_content(_IMAGE_PART), LARGEST_IMAGE)


def _joined(parts: Iterable[bytes], largest: int) -> bytes:
    """What a server sends, as long as it is neither too much nor too slow.

    Raises:
        OSError: it is.
    """
    start, content = time.monotonic(), bytearray()
    for part in parts:
        content += part
        if len(content) > largest:
            raise OSError(f"it is above {largest} bytes")
        if len(content) < SLOWEST * (time.monotonic() - start - SECONDS):
            raise OSError(f"it comes at less than {SLOWEST} bytes a second")
    return bytes(content)


def _reason(error: Exception) -> str:
    match error.__context__ if isinstance(error, RemoteZipError) else error:
        case requests.Timeout():
            return f"no answer in {SECONDS} seconds"
        case requests.ConnectionError():
            return "no connection"
        case KeyError() as absent if absent.args and "archive" not in str(absent):
            return f"field {absent} is missing"
        case _:
            return reason(error)

"""A few photographs of COCO with their boxes, without the 1.2 GB that all of them take.

The images come one by one; of the archive of annotations only the part that holds
val2017 is asked for.
"""

from __future__ import annotations

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from remotezip import RemoteZip, RemoteZipError
from tqdm.auto import tqdm

from bckd.errors import InputError
from bckd.files import write_atomically, write_json

# COCO's own: its https certificate is of another host, so the page of COCO links by http, too.
SERVER = "http://images.cocodataset.org"
ARCHIVE = "annotations/annotations_trainval2017.zip"
ANNOTATIONS = "annotations/instances_val2017.json"
IMAGES = "val2017"
SECONDS = 60  # without an answer, after which the server counts as gone
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
    chosen = _first_annotations(server, count)
    folder = root / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    missing = [entry for entry in chosen["images"] if not (folder / entry["file_name"]).is_file()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = pool.map(lambda entry: _fetch_image(entry, folder, server), missing)
        for _ in tqdm(fetched, "photographs", len(missing), leave=False, disable=not progress):
            pass
    write_json(root / ANNOTATIONS, chosen)


def _first_annotations(server: str, count: int) -> dict[str, Any]:
    url = f"{server}/{ARCHIVE}"
    try:
        with RemoteZip(url, timeout=SECONDS) as archive:
            return _first(json.loads(archive.read(ANNOTATIONS)), count)
    except (RemoteZipError, zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{ANNOTATIONS} could not be read from {url}: {_reason(error)}") from error


def _first(annotations: dict[str, Any], count: int) -> dict[str, Any]:
    """The images with the lowest ids, their objects without masks, and all categories."""
    images = sorted(annotations["images"], key=lambda image: image["id"])[:count]
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


def _fetch_image(entry: dict[str, Any], folder: Path, server: str) -> None:
    """Download one image, and see that it is one, of the size that its entry says.

    COCO publishes no hashes of single images, so more can't be checked.
    """
    path, url = folder / entry["file_name"], f"{server}/{IMAGES}/{entry['file_name']}"
    expected = (entry["width"], entry["height"])

    def write(part: Path) -> None:
        part.write_bytes(answer.content)
        with Image.open(part) as image:
            image.load()
        if image.size != expected:
            raise InputError(f"{url} is {image.size} pixels; its annotation says {expected}")

    try:
        answer = requests.get(url, timeout=SECONDS)
        answer.raise_for_status()
        write_atomically(path, write)
    except OSError as error:
        raise InputError(f"{url} could not be fetched as an image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    match error.__context__ if isinstance(error, RemoteZipError) else error:
        case requests.Timeout():
            return f"no answer in {SECONDS} seconds"
        case requests.ConnectionError():
            return "no connection"
        case _:
            return " ".join(str(error).split()) or type(error).__name__

"""The validation images of a data set in two parts: what a sweep is judged on, and the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from bckd.system.files import read_json, write_text

Part = Literal["sweep", "comparison"]
VALIDATION = "annotations/instances_val.json"  # in the data set's folder
EVERY = 3  # one of so many images, by id, is the sweep's: also where classes lie one after another


def judged_file(root: Path, part: Part) -> str:
    """The file of a part, as seen from the data set's folder; no image is in both.

    Args:
        root: that folder.
    """
    return f"../{root.name}-labels/val-{part}.json"


def write_validation_parts(root: Path) -> None:
    """Write the two files of a data set, unless they are there, in a folder beside it.

    Raises:
        InputError: the annotations can't be read, or a file can't be written.
    """
    content = read_json(root / VALIDATION)
    ids = sorted(image["id"] for image in content["images"])
    swept = set(ids[::EVERY])
    parts: dict[Part, set[int]] = {"sweep": swept, "comparison": set(ids) - swept}
    for part, kept in parts.items():
        path = root / judged_file(root, part)
        if path.is_file() and {image["id"] for image in read_json(path)["images"]} == kept:
            continue  # else it is of other images, or shared out in another way
        images = [image for image in content["images"] if image["id"] in kept]
        boxes = [box for box in content["annotations"] if box["image_id"] in kept]
        write_text(path, json.dumps({**content, "images": images, "annotations": boxes}))

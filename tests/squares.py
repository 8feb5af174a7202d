"""Annotations of images with one square box of each class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bckd.datasets.annotations import Annotations, read_annotations


def squares(
    folder: Path, sides: dict[str, list[int]], width: int = 640, height: int = 480
) -> Annotations:
    """Images of one size, a box of each class in each."""
    count = max(map(len, sides.values()))
    images = [
        {"id": n, "file_name": f"{n}.png", "width": width, "height": height} for n in range(count)
    ]
    rows: list[dict[str, Any]] = []
    for label, each in enumerate(sides.values()):
        for n, side in enumerate(each):
            box = {"bbox": [1, 1, side, side], "image_id": n, "category_id": label}
            rows.append({"id": len(rows) + 1, **box})
    categories = [{"id": label, "name": name} for label, name in enumerate(sides)]
    path = folder / "boxes.json"
    content = {"images": images, "annotations": rows, "categories": categories}
    path.write_text(json.dumps(content))
    return read_annotations(path)

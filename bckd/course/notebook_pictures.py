"""Pictures in the saved outputs of notebooks."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from bckd.system.errors import InputError


def picture_of(notebook: Path, cell: str) -> bytes:
    """The PNG file that a cell of a saved notebook shows last.

    Args:
        cell: its id.

    Raises:
        InputError: the notebook has no such cell, or the cell shows no picture.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [
        output.get("data", {})
        for one in cells
        if one["id"] == cell
        for output in one.get("outputs", [])
    ]
    pictures = [data["image/png"] for data in outputs if "image/png" in data]
    if not pictures:
        raise InputError(f"{notebook} has no cell {cell!r} that shows a picture")
    return base64.b64decode("".join(pictures[-1]))

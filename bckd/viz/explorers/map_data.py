"""What the explorers of maps send to the browser alike."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from bckd.viz.picture_outputs import PictureOutputs

LOSSLESS_BYTES = 300_000  # a larger PNG becomes a JPEG


def map_data(pictured: PictureOutputs) -> dict[str, Any]:
    """The picture, the classes and how the levels' cells lie over one another."""
    height, width = pictured.picture.shape[:2]
    return {
        "picture": _picture_url(pictured.picture),
        "size": [width, height],
        "classes": list(pictured.class_names),
        "levels": [[level.stride, level.height, level.width] for level in pictured.levels],
        "stack": pictured.stack,
    }


def _picture_url(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    kind, content = "png", io.BytesIO()
    image.save(content, "PNG")
    if content.tell() > LOSSLESS_BYTES:
        kind, content = "jpeg", io.BytesIO()
        image.save(content, "JPEG", quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"

"""Whose JSON a file is that is not in COCO's format, so that a message can say what to export."""

from __future__ import annotations

from typing import Any

# Fields that a file's object, or the first entry of its list, has to have; whose it is.
_OBJECTS = (
    (("_via_img_metadata",), "a project of VIA"),
    (("assets", "tags"), "a project of VoTT"),
    (("shapes", "imagePath"), "labelme's file of one image"),
    (("items", "categories"), "Datumaro's own format"),
    (("instances", "metadata"), "SuperAnnotate's own format"),
    (("samples",), "FiftyOne's own format"),
)
_LISTS = (
    (("image_id", "category_id", "bbox", "score"), "a list of detections, without images"),
    (("data", "annotations"), "Label Studio's own format"),
    (("data", "completions"), "Label Studio's own format"),
    (("image", "annotations"), "CreateML's format"),
    (("instances", "metadata"), "SuperAnnotate's own format"),
)


def format_of(content: Any) -> str | None:
    """What a file seems to be instead, in words; None: nothing tells."""
    if isinstance(content, list):
        return _first(_LISTS, content[0] if content else None)
    if not isinstance(content, dict) or "images" in content:
        return None
    values = [*content.values()]
    if values and all(isinstance(x, dict) and {"filename", "regions"} <= set(x) for x in values):
        return "VIA's own format"
    return _first(_OBJECTS, content)


def _first(kinds: tuple[tuple[tuple[str, ...], str], ...], found: Any) -> str | None:
    if not isinstance(found, dict):
        return None
    return next((name for fields, name in kinds if set(fields) <= set(found)), None)

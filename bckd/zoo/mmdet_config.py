"""mmdetection's configuration, which its files carry as text: what weights alone do not say.

It is Python, and is never run: of its assignments only constants, lists and `dict(...)` are read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bckd.image_size import ImageSize
from bckd.models.detector import DetectorConfig
from bckd.models.heads import HeadName
from bckd.models.heads.atss import DELTA_SCALE
from bckd.models.heads.retinanet import OCTAVES, RATIOS
from bckd.normalisation import CAFFE, IMAGENET, Normalisation
from bckd.system.errors import InputError

# What of `model.bbox_head` decides scores and boxes, and how they are computed here.
_ONE_ANCHOR = {
    "anchor_generator.scales_per_octave": 1,
    "anchor_generator.ratios": [1.0],
    "loss_cls.use_sigmoid": True,
}
_COMPUTED: dict[HeadName, dict[str, Any]] = {
    "gfl": _ONE_ANCHOR,
    "atss": {**_ONE_ANCHOR, "bbox_coder.target_stds": list(DELTA_SCALE)},
    "retinanet": {
        "anchor_generator.scales_per_octave": len(OCTAVES),
        "anchor_generator.ratios": list(RATIOS),
        "bbox_coder.target_stds": [1.0] * 4,
        "loss_cls.use_sigmoid": True,
    },
    "fcos": {"norm_on_bbox": False, "centerness_on_reg": False, "loss_cls.use_sigmoid": True},
}


def configured(config: DetectorConfig, text: str) -> tuple[DetectorConfig, ImageSize | None]:
    """A detector that was told by its weights, with what its configuration adds.

    Args:
        text: the configuration; what can't be read of it changes nothing.

    Returns:
        The detector, and the size of the images that it is tested on; None where it is not said.

    Raises:
        InputError: it computes scores or boxes in another way than this family here.
    """
    said = _assignments(text)
    model = said.get("model")
    model = model if isinstance(model, dict) else {}
    head = model.get("bbox_head")
    for name, ours in _COMPUTED.get(config.head, {}).items():
        theirs = _at(head, name)
        if theirs is not None and theirs != ours:
            raise InputError(
                f"its configuration has bbox_head.{name} {theirs}; expected {ours}, as a "
                f"{config.head} head is computed here"
            )
    style = _at(model, "backbone.style")
    if style in ("caffe", "pytorch") and config.backbone in ("resnet50", "resnet101"):
        config = replace(config, caffe=style == "caffe")
    scale = _at(head, "anchor_generator.octave_base_scale")
    if isinstance(scale, int | float) and scale > 0:
        config = replace(config, anchor_scale=float(scale))
    places = (model.get("data_preprocessor"), said.get("data_preprocessor"))
    found = (_normalisation(x) for x in (*places, said.get("img_norm_cfg")))
    normalisation = next((x for x in found if x is not None), config.normalisation)
    return replace(config, normalisation=normalisation), _test_size(said)


def _assignments(text: str) -> dict[str, Any]:
    """The values that a configuration assigns; nothing where it is no Python."""
    found: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found[statement.targets[0].id] = _value(statement.value, found)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return found


def _value(node: ast.expr | None, known: dict[str, Any]) -> Any:
    """What an expression says; None of what would have to be computed."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return known.get(node.id)
        case ast.List() | ast.Tuple():
            return [_value(x, known) for x in node.elts]
        case ast.Dict():
            names = (_value(x, known) for x in node.keys)
            pairs = zip(names, node.values, strict=True)
            return {name: _value(x, known) for name, x in pairs if isinstance(name, str)}
        case ast.Call(func=ast.Name(id="dict")):
            return {x.arg: _value(x.value, known) for x in node.keywords if x.arg is not None}
    return None


def _at(tree: Any, name: str) -> Any:
    """The value at a dotted name; None where there is none."""
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _normalisation(said: Any) -> Normalisation | None:
    """What is said of pixels (0..255, read as BGR), by mmdetection 3 or 2."""
    mean, deviation = (_three(_at(said, name)) for name in ("mean", "std"))
    if mean is None or deviation is None or min(deviation) <= 0:
        return None
    turned = said.get("bgr_to_rgb", said.get("to_rgb", False))
    mean, deviation = (tuple(x / 255 for x in values) for values in (mean, deviation))
    found = Normalisation(mean, deviation, bgr=not turned)  # type: ignore[arg-type]
    return next((known for known in (IMAGENET, CAFFE) if _close(known, found)), found)


def _close(known: Normalisation, found: Normalisation) -> bool:
    """Whether two are the same but for rounding."""
    pairs = zip((*known.mean, *known.deviation), (*found.mean, *found.deviation), strict=True)
    return known.bgr == found.bgr and all(abs(a - b) < 1e-5 for a, b in pairs)


def _three(values: Any) -> tuple[float, ...] | None:
    fits = isinstance(values, list) and len(values) == 3
    return tuple(values) if fits and all(isinstance(x, int | float) for x in values) else None


def _test_size(said: dict[str, Any]) -> ImageSize | None:
    """The size of the images that it is tested on, where their shape is kept."""
    data = (_at(said, "test_dataloader.dataset.pipeline"), _at(said, "data.test.pipeline"))
    for pipeline in (said.get("test_pipeline"), *data):
        for step in _dictionaries(pipeline):
            scale = step.get("scale") or step.get("img_scale")
            sides = scale if isinstance(scale, list) and len(scale) == 2 else [None]
            if all(isinstance(x, int) and x > 0 for x in sides):
                return ImageSize(min(sides), max(sides)) if step.get("keep_ratio", True) else None
    return None


def _dictionaries(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a tree, the outer ones first."""
    if isinstance(tree, dict):
        yield tree
    for value in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from _dictionaries(value)

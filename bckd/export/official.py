"""Weights and class names as the official code and mmdetection keep them."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import fields
from pathlib import Path

import torch

from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.system.errors import InputError
from bckd.system.files import write_atomically
from bckd.system.values import to_plain
from bckd.zoo.checkpoints import Checkpoint
from bckd.zoo.official import (
    config_of_official,
    has_layout,
    load_official,
    official_state_dict,
)
from bckd.zoo.wrapped import SETTINGS, read_official

# What the official layout leaves to the reader's configuration, and inference does not need.
_TRAINING_ONLY = ("pretrained", "weights", "width", "frozen_stages", "norm_eval")


def export_official(checkpoint: Checkpoint, path: Path) -> str:
    """Write weights and class names as mmdetection 2.x saves them, for `torch.load`.

    The layout has no place for groups, image size or activation: other readers' configuration
    must say them, `load_detector` finds them beside the class names. What was there stays if
    the weights do not come back as they were.

    Returns:
        What came back, and what a reader must be told.

    Raises:
        InputError: the layout knows no such detector.
    """
    detector = _official_detector(checkpoint)
    tensors = {name: x.detach().cpu() for name, x in official_state_dict(detector).items()}
    settings = {"model": to_plain(detector.config), "size": to_plain(checkpoint.size)}
    meta = {"CLASSES": detector.class_names, SETTINGS: json.dumps(settings)}
    buffer, reports = io.BytesIO(), []
    torch.save({"state_dict": tensors, "meta": meta}, buffer)

    def write(part: Path) -> None:
        part.write_bytes(buffer.getvalue())
        reports.append(_official_report(checkpoint, part))

    write_atomically(path, write)
    return reports[0]


def _official_detector(checkpoint: Checkpoint) -> Detector:
    detector = checkpoint.detector
    if isinstance(detector, Detector) and has_layout(detector):
        return detector
    raise InputError(
        f"{_what(detector)} has no official key layout; expected GFL, RetinaNet, FCOS or ATSS "
        "on a ResNet or on MobileNetV2"
    )


def _what(detector: DenseDetector) -> str:
    if isinstance(detector, Detector):
        return f"{detector.config.head} on {detector.config.backbone}"
    return type(detector).__name__


def _official_report(checkpoint: Checkpoint, path: Path) -> str:
    """That the weights come back exactly, and what `load_detector` would take for granted."""
    detector = _official_detector(checkpoint)
    state_dict = read_official(path).state_dict
    copied = copy.deepcopy(detector)
    report = load_official(copied, state_dict)
    for name, value in copied.state_dict().items():
        if not torch.equal(value, detector.state_dict()[name]):
            raise InputError(f"a file in the official layout would not hold {name} as it was")
    assumed, _ = config_of_official(state_dict)
    unsaid = [
        field.name
        for field in fields(assumed)
        if field.name not in _TRAINING_ONLY
        and getattr(assumed, field.name) != getattr(detector.config, field.name)
    ]
    if checkpoint.size != ImageSize():
        unsaid.append("image size")
    note = f"; a reader must be told: {', '.join(unsaid)}" if unsaid else ""
    return f"{len(report.loaded)} entries, read back exactly{note}"

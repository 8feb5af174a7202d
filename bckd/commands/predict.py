"""The command `bckd predict`: what a detector finds in images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bckd.commands.help import Short
from bckd.commands.parsing import existing, parse, run_first
from bckd.system.errors import InputError
from bckd.system.values import Fraction, Place, checked


@dataclass(frozen=True)
class PredictOptions:
    """Find objects in images: files, folders with all that lies below them, or patterns (*.jpg).

    Each image is drawn with its boxes. detections.json has all boxes, as COCO results with the
    names of files and classes, and images.json the ids of both.
    """

    images: Annotated[tuple[Place, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """files, folders or patterns"""
    out: Place = Path("runs/predictions")
    """folder of the drawn images, detections.json and images.json"""
    threshold: Fraction = 0.3
    """lower scores are left out"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""


SHORT = Short(
    ("--out", "--threshold", "--device"),
    (
        "predict runs/my-student photos --out found",
        "predict nanodet_m a.jpg b.jpg --threshold .5",
    ),
    "IMAGES...",
)


def run(arguments: list[str]) -> int:
    """Predict; the exit code."""
    source, rest = run_first("predict", arguments)
    name = f"predict {source}"
    options = parse(PredictOptions, rest, name, SHORT)
    if not options.images:
        raise InputError(f"bckd {name} needs images behind it: files, folders or patterns")
    from bckd.commands.predicted import run_predict  # late: no help and no typo needs it

    options = checked(options)
    place = existing(source)
    return run_predict(place, options.images, options.out, options.threshold, options.device)

"""The command `bckd scenes`: the embedded benchmark as a COCO-format data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bckd.commands.parsing import parse
from bckd.system.values import Count, Place, Seed, checked


@dataclass(frozen=True)
class ScenesOptions:
    """Write the embedded benchmark as a COCO-format data set (once; it stays as it is)."""

    root: Place = Path("data/scenes")
    """folder to write"""
    train: Count = 2000
    """training images"""
    val: Count = 400
    """images to evaluate on"""
    seed: Seed = 0
    """of the drawing"""
    variant: Literal["standard", "twelve"] = "standard"
    """six classes (and the same images with one or four), or twelve classes"""


def run(arguments: list[str]) -> None:
    """Write the scenes."""
    options = checked(parse(ScenesOptions, arguments, "scenes"))
    from bckd.datasets.scenes import write_scenes  # late: no help and no typo needs it

    write_scenes(options.root, options.train, options.val, options.seed, options.variant)
    print(f"scenes are in {options.root}")

"""Options that several commands have, and those of `bckd demo` and `bckd protocols`.

The text below a field is its help.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bckd.image_size import ImageSize
from bckd.recipes import DataConfig
from bckd.recipes.presets import SCENES_TEACHER
from bckd.system.values import Count, Place, Seed, Workers


@dataclass(frozen=True)
class DemoOptions:
    """Train three students on the embedded scenes (no distillation, softmax KD, BCKD); report.

    Interrupted and started again, it goes on where it was.
    """

    out: Place = Path("runs/demo")
    """folder of the runs, results.json and report.html"""
    root: Place = Path("data/scenes")
    """folder of the scenes; written if absent"""
    teacher: Place = SCENES_TEACHER
    """weights of the teacher"""
    steps: Count = 600
    """training steps of each student"""
    seed: Seed = 0
    """of the three students"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""


@dataclass(frozen=True)
class Evaluated:
    """The part of a data set that is evaluated on; paths below are relative to its root."""

    root: Place = DataConfig.root
    """folder of the data set"""
    val_images: str = DataConfig.val_images
    """folder of the images to evaluate on"""
    val_annotations: str = DataConfig.val_annotations
    """COCO instances file of these images"""
    first_val: Count | None = DataConfig.first_val
    """evaluate on the first images by id only"""
    workers: Workers = DataConfig.workers
    """processes that load images; 0 loads in the main process"""

    @classmethod
    def of(cls, data: DataConfig) -> Self:
        """What a data set's configuration says of it."""
        return cls(**{field.name: getattr(data, field.name) for field in fields(cls)})

    def config(self, **others: Any) -> DataConfig:
        """The configuration of such a data set.

        Args:
            others: fields that are not said here.
        """
        return DataConfig(**others, **{x.name: getattr(self, x.name) for x in fields(self)})


@dataclass(frozen=True)
class EvaluatedAtSize(Evaluated):
    """The part of a data set that is evaluated on; paths below are relative to its root."""

    size: ImageSize = field(default_factory=ImageSize)


@dataclass(frozen=True)
class ProtocolOptions:
    """What softmax and sigmoid say of a detector's logits, at objects and at background.

    For detectors with one anchor a cell: GFL, ATSS, NanoDet. Images come at the size that goes
    with the weights.
    """

    weights: Place = Path("nanodet_m")
    """weights, the folder of a run, or a name that `bckd detectors` lists"""
    data: Evaluated = field(default_factory=Evaluated)
    out: Place = Path("runs/protocols")
    """folder of protocols.json, scores.npz and maps.png"""
    images: Count = 4
    """images in the figure, the first by id"""
    stride: Count = 16
    """level whose maps the figure shows, by its stride in pixels"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""

"""Options of `bckd demo` and `bckd protocols`; the text below a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bckd.recipes import DataConfig
from bckd.recipes.presets import SCENES_TEACHER
from bckd.system.values import Count, Place, Seed


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
class ProtocolOptions:
    """What softmax and sigmoid say of a detector's logits, at objects and at background.

    For detectors with one anchor a cell: GFL, ATSS, NanoDet. Images come at the size that goes
    with the weights, whatever --data.size says.
    """

    weights: Place = Path("nanodet_m")
    """weights, the folder of a run, or a name that `bckd detectors` lists"""
    data: DataConfig = field(default_factory=DataConfig)
    out: Place = Path("runs/protocols")
    """folder of protocols.json, scores.npz and maps.png"""
    images: Count = 4
    """images in the figure, the first by id"""
    stride: Count = 16
    """level whose maps the figure shows, by its stride in pixels"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""

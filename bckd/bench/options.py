"""What is to be measured, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bckd.system.precision import Precision
from bckd.system.values import Count, Images, Place, Side, Workers

Part = Literal["step", "terms", "annotations", "loader", "inference", "evaluation", "export"]
PARTS: tuple[Part, ...] = get_args(Part)
NOBODY = "none"


@dataclass(frozen=True)
class BenchOptions:
    """Time training and its parts, terms, annotations, loading, inference, evaluation, export.

    Networks have random weights, and photographs are drawn, unless --root names some."""

    parts: tuple[Part, ...] = PARTS
    """what to measure"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    batch_size: Images | None = None
    """images a step; None: the preset's on a GPU, 2 on a CPU"""
    height: Side | None = None
    """of the images that a network sees, in pixels; None: that of the preset's wide images on a
    GPU, 320 or less on a CPU"""
    width: Side | None = None
    """likewise"""
    teacher: str | None = None
    """the preset whose model teaches, or none: nobody; None: the student's model on a ResNet-101
    for COCO, scenes-teacher for the scenes"""
    precision: Precision | None = None
    """autocast of the networks; None: the preset's"""
    compile: bool = False
    """compile networks and losses by torch.compile"""
    repeat: Count | None = None
    """times that each thing is measured, after it was done a few times; None: 20 on a GPU, 3 on
    a CPU"""
    root: Place | None = None
    """folder of a data set, laid out as the preset says; None: photographs are drawn"""
    workers: Workers | None = None
    """processes that load images; None: the preset's"""
    out: Place | None = None
    """also write what was measured, with machine and settings, as a JSON file"""
    compare: Place | None = None
    """a JSON file of --out: print how much faster each line has become"""

"""Data sets in other formats, made COCO's; a format is a file here, and a line below."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bckd.datasets.findings import Findings
from bckd.datasets.formats.labelled import LabelledSet, Tree
from bckd.datasets.formats.voc import holds_voc, read_voc
from bckd.datasets.formats.yolo import holds_yolo, read_yolo


class Format(NamedTuple):
    """A format of data sets.

    Attributes:
        is_in: whether a folder holds one.
        read: it, what is wrong or odd in it being noted.
    """

    is_in: Callable[[Tree], bool]
    read: Callable[[Tree, Findings], LabelledSet]


FORMATS = {"yolo": Format(holds_yolo, read_yolo), "voc": Format(holds_voc, read_voc)}

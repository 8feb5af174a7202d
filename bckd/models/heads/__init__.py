"""The families of detectors: one file a head, and one line here that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bckd.models.heads.atss import ATSSHead
from bckd.models.heads.fcos import FCOSHead
from bckd.models.heads.gfl import GFLHead
from bckd.models.heads.head import Head
from bckd.models.heads.retinanet import RetinaNetHead

HEADS: dict[str, type[Head]] = {
    "gfl": GFLHead,
    "retinanet": RetinaNetHead,
    "fcos": FCOSHead,
    "atss": ATSSHead,
}

if TYPE_CHECKING:
    HeadName = str
else:
    HeadName = Literal[*HEADS]

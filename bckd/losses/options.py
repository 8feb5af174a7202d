"""How the loss terms are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bckd.assigners import Crowd, RegionKind
from bckd.geometry import IoUKind
from bckd.losses.distillation import Places
from bckd.system.values import Fraction, PositiveOrZero, Scale

Divisor = Literal["gfl", "bckd"]


@dataclass(frozen=True)
class LossOptions:
    """How the terms are computed; the defaults are the official COCO recipe's, but for `crowd`."""

    divisor: Divisor = "bckd"
    """of GFL's giou and dfl: of the plain GFL head, or of the BCKD/LD head"""
    gate_levels: bool = True
    """no distillation on a level without any positive in the group (paper: False)"""
    binary_beta: PositiveOrZero = 1.0
    """exponent of the weight |p_t - p_s| in L_cls"""
    binary_detach: bool = False
    """the weight in L_cls is a constant (the formula leaves it open; official code: False)"""
    binary_places: Places = "all"
    """L_cls at all valid locations, at positives alone, or at all others"""
    iou_kind: IoUKind = "giou"
    """similarity of boxes in L_loc (paper: iou)"""
    iou_weighting: Literal["gap", "teacher"] = "gap"
    """weight of a location in L_loc: max_j |p_t - p_s|, or max_j p_t"""
    softmax_temperature: Scale = 2.0
    """T of softmax distillation"""
    softmax_places: Places = "all"
    """softmax distillation at all valid locations, at positives alone, or at all others"""
    softmax_until: Fraction = 1.0
    """softmax distillation stops at this fraction of the run"""
    binary_from: Fraction = 0.0
    """L_cls starts at this fraction of the run"""
    ld_temperature: Scale = 10.0
    """T of LD"""
    ld_region_kind: RegionKind = "official"
    """the official code's valuable region, or the paper's"""
    crowd: Crowd = "ignored"
    """crowd regions (iscrowd 1) are ignored, or background (official code, the COCO presets)"""

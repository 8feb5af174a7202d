"""Which locations learn which box: one file an assigner."""

from bckd.assigners.atss import assign_atss
from bckd.assigners.fcos import assign_fcos
from bckd.assigners.max_iou import assign_max_iou
from bckd.assigners.shared import AssignmentRules, Crowd, RegionKind

__all__ = ["AssignmentRules", "Crowd", "RegionKind", "assign_atss", "assign_fcos", "assign_max_iou"]

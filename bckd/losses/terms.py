"""The distillation terms: an entry of `TERMS` names one, says its weight and what it needs.

The configuration (`--weights.NAME`), the objective, the checks of the teacher, the log and the
titles of curves follow from that line. A term of one's own, outside this package, is named by
`Recipe.terms`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from bckd.losses.crosskd import CrossBCKD, CrossKD
from bckd.losses.dist import relations
from bckd.losses.distillation import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.losses.features.cwd import ChannelWise
from bckd.losses.features.defeat import Decoupled
from bckd.losses.features.fgd import FocalAndGlobal
from bckd.losses.features.fine_grained import FineGrained
from bckd.losses.features.fitnet import FitNet
from bckd.losses.features.general_instance import GeneralInstances
from bckd.losses.features.mgd import MaskedGeneration
from bckd.losses.features.pkd import Pearson
from bckd.losses.needs import NEEDS, Need, TermFunction, needs
from bckd.losses.options import LossOptions
from bckd.losses.yolov6 import softmax_of_scores
from bckd.structures import Assignment, Batch, DenseOutput

__all__ = ["NEEDS", "TERMS", "Need", "Term", "TermFunction", "needs"]


@dataclass(frozen=True)
class Term:
    """One distillation term.

    Attributes:
        title: what it is, in few words, as above a curve.
        text: what it is, as in the help of an option.
        make: the function, from the options that a recipe has.
        module: in place of it, the class of a term with adapters: made of what student and
            teacher say of one image, it is called as a function is, and its parameters learn
            with the student's.
        weight: its default; 0: it is not computed unless asked for.
        needs: see `Need`.
    """

    title: str
    text: str
    make: Callable[[LossOptions], TermFunction] | None = None
    weight: float = 0.0
    needs: tuple[Need, ...] = ()
    module: type[nn.Module] | None = None


def _of_pair(function: Callable[..., Tensor], **options: str) -> Callable[[LossOptions], Any]:
    """Makes a term of a function of student, teacher and assignment.

    Args:
        options: the field of `LossOptions` by the keyword that it becomes.
    """

    def make(given: LossOptions) -> TermFunction:
        """The term with a recipe's options."""
        chosen = {keyword: getattr(given, field) for keyword, field in options.items()}

        def term(
            student: DenseOutput,
            teacher: DenseOutput,
            assignment: Assignment,
            batch: Batch | None,
        ) -> Tensor:
            """The function's value; it needs no batch."""
            return function(student, teacher, assignment, **chosen)

        return term

    return make


def _on_maps(title: str, text: str, module: type[nn.Module]) -> Term:
    return Term(title, text, module=module, needs=("features",))


TERMS: dict[str, Term] = {
    "binary": Term(
        "L_cls (binary)",
        "L_cls of BCKD: binary classification distillation",
        _of_pair(
            binary_classification,
            beta="binary_beta",
            detach_weight="binary_detach",
            places="binary_places",
            gate_levels="gate_levels",
        ),
        weight=1.0,
    ),
    "iou": Term(
        "L_loc (IoU)",
        "L_loc of BCKD: IoU-based localisation distillation",
        _of_pair(
            iou_localisation,
            kind="iou_kind",
            weighting="iou_weighting",
            gate_levels="gate_levels",
        ),
        weight=4.0,
    ),
    "softmax": Term(
        "softmax KD",
        "softmax distillation of the class logits (mean over classes)",
        _of_pair(
            softmax_classification,
            temperature="softmax_temperature",
            places="softmax_places",
            gate_levels="gate_levels",
        ),
    ),
    "ld": Term(
        "LD on positives",
        "localisation distillation (LD) on positives",
        _of_pair(localisation_distribution, temperature="ld_temperature"),
        needs=("distributions",),
    ),
    "ld_region": Term(
        "LD on the valuable region",
        "LD on the valuable localisation region",
        _of_pair(partial(localisation_distribution, places="region"), temperature="ld_temperature"),
        needs=("distributions", "region"),
    ),
    "dist": Term(
        "DIST",
        "DIST: correlation of sigmoid scores over classes and over cells, level by level",
        _of_pair(relations),
    ),
    "yolov6": Term(
        "YOLOv6's softmax",
        "YOLOv6's self-distillation: a softmax over sigmoid scores at T 20, no divisor",
        _of_pair(softmax_of_scores),
    ),
    "fitnet": _on_maps("FitNet", "FitNets: the squared gap of the pyramids' maps", FitNet),
    "fine_grained": _on_maps(
        "fine-grained imitation", "maps at the cells whose anchors are near an object", FineGrained
    ),
    "defeat": _on_maps("DeFeat", "DeFeat: maps at objects and at background apart", Decoupled),
    "general_instance": _on_maps(
        "general instances",
        "GID: maps inside the boxes at which student and teacher differ most",
        GeneralInstances,
    ),
    "cwd": _on_maps("CWD", "CWD: each channel's map as a distribution over cells", ChannelWise),
    "pkd": _on_maps("PKD", "PKD: the squared gap of maps of mean 0 and deviation 1", Pearson),
    "mgd": _on_maps(
        "MGD", "MGD: the teacher's maps, generated of the student's masked ones", MaskedGeneration
    ),
    "crosskd": Term(
        "CrossKD",
        "CrossKD: the student's maps through the teacher's head, with the paper's losses",
        module=CrossKD,
        needs=("head",),
    ),
    "crosskd_bckd": Term(
        "CrossKD with BCKD's losses",
        "CrossKD's predictions, distilled by L_cls and 4 L_loc",
        module=CrossBCKD,
        needs=("head",),
    ),
    "fgd": _on_maps(
        "FGD", "FGD: maps of objects and background apart, by attention", FocalAndGlobal
    ),
}

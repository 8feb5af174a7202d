"""One class, twelve classes and photographs of steel, from common starts of their own.

The factors of their sweeps go from those at which six classes of scenes pull as much as the labels.
"""

from __future__ import annotations

from dataclasses import replace

from bckd.studies.common_starts import fine, going_on, starts
from bckd.studies.data_variants import labelled, neu, twelve
from bckd.studies.fine import UNITS, UNSWEPT, factors_of_their_own, fine_study, softmax_then_bckd
from bckd.studies.methods import methods, only
from bckd.studies.regimes import SCENES
from bckd.studies.study import Method
from bckd.studies.validation_parts import judged_file

ONE, TWELVE, NEU = labelled(SCENES, "_one"), twelve(SCENES), neu(SCENES)
COUNT = 8  # students to start from, each its seed
ONE_STARTS = starts("start-one", COUNT)
TWELVE_STARTS = starts("start-twelve", COUNT)
NEU_STARTS = starts("start-neu", COUNT)
EDGE_SEEDS = (14, 15, 22, 23)  # of the sweep's two starts

_SWEEP_OF_STEEL = replace(NEU.data, val_annotations=judged_file(NEU.data.root, "sweep"))
_STEEL = replace(NEU.data, val_annotations=judged_file(NEU.data.root, "comparison"))

# The factors that are best on steel, by the sweep of "fine-neu".
_SOFTMAX_ON_STEEL, _BCKD_ON_STEEL = 1 / 9, 27.0


def _one_term(name: str, term: str) -> Method:
    """BCKD with one of its terms alone, at the weight that it has in the whole."""
    weight = methods(6)["BCKD"].weights[term]
    return Method(name, {term: _BCKD_ON_STEEL * UNITS["BCKD"] * weight}, swept=False)


FINE_REGIMES = (
    fine_study(
        "fine-one",
        "one class, from common starts",
        # Of one class softmax distillation is 0: the last is L_loc, and L_cls from half of the run.
        (*only(1, "none", "L_cls", "L_loc", "BCKD"), softmax_then_bckd(1)),
        base=fine(ONE),
        sweep_data=ONE.data,
        starts=ONE_STARTS,
        edge_seeds=EDGE_SEEDS,
        teacher="teacher-one",
    ),
    fine_study(
        "fine-twelve",
        "twelve classes, from common starts",
        (
            *only(12, "none", "softmax", "L_cls", "BCKD", "softmax + L_loc"),
            softmax_then_bckd(12),
        ),
        base=fine(TWELVE, "scenes12-fine"),
        sweep_data=TWELVE.data,
        starts=TWELVE_STARTS,
        edge_seeds=EDGE_SEEDS,
        teacher="teacher-twelve",
    ),
    fine_study(
        "fine-neu",
        "photographs of steel, from common starts",
        (*only(6, "none", "softmax", "BCKD", "softmax + L_loc"), softmax_then_bckd(6)),
        base=going_on(replace(NEU, data=_STEEL)),
        sweep_data=_SWEEP_OF_STEEL,
        starts=NEU_STARTS,
        edge_seeds=EDGE_SEEDS,
        teacher="teacher-neu",
    ),
    fine_study(
        "fine-neu-parts",
        "photographs of steel: BCKD's terms apart, and one protocol after the other, each at the "
        "factor that is best for it alone",
        (
            factors_of_their_own(_SOFTMAX_ON_STEEL, _BCKD_ON_STEEL),
            _one_term("BCKD without L_loc", "binary"),
            _one_term("BCKD without L_cls", "iou"),
        ),
        base=going_on(replace(NEU, data=_STEEL)),
        starts=NEU_STARTS,
        **UNSWEPT,
        teacher="teacher-neu",
        shared=("none", "softmax", "BCKD", "softmax + L_loc"),
        shared_from="fine-neu",
    ),
)

"""The first search for a recipe above BCKD, from seeds, and where it was taken to."""

from __future__ import annotations

from dataclasses import replace

from bckd.studies.data_variants import fresh, neu, pretrained
from bckd.studies.methods import only, variant
from bckd.studies.regimes import FEW, SCENES, WIDE_SWEEP, regime
from bckd.studies.study import Method

_THREE_TERMS = {"softmax": 0.75, "binary": 1.0, "iou": 4.0}
_LATE = {"losses.softmax_until": 0.5, "losses.binary_from": 0.5}
_BY_TEACHER = {"losses.iou_weighting": "teacher"}

# Attempts at more than BCKD; the search's own seeds choose among them. Named by their
# weights (softmax : a1 : a2) where these are not BCKD's factor times the published ones.
_CANDIDATES = (
    Method("both", _THREE_TERMS, swept=False, scale_of="BCKD"),
    Method("softmax, then binary", _THREE_TERMS, _LATE, swept=False, scale_of="BCKD"),
    Method("both, L_loc by p_t", _THREE_TERMS, _BY_TEACHER, swept=False, scale_of="BCKD"),
    Method("both, .75 : 1 : 16", _THREE_TERMS | {"iou": 16.0}, swept=False),
    Method("BCKD, 1 : 16", {"binary": 1.0, "iou": 16.0}, swept=False),
)
CHOSEN = _CANDIDATES[2]  # the best of "recipe-search"

RECIPE = (
    regime(
        "recipe-search",
        "combinations that might beat BCKD, on seeds of their own",
        SCENES,
        methods=_CANDIDATES,
        seeds=(200, 201),
    ),
    regime(
        "recipe-confirm",
        "six classes, 1200 steps, fresh seeds and images",
        fresh(SCENES),
        methods=(CHOSEN, *only(6, "BCKD", "softmax + L_loc")),
        seeds=(300, 301, 302, 303),
    ),
    regime(
        "neu-det",
        "NEU, weights of the scenes",
        replace(neu(SCENES), steps=600),
        teacher="teacher-neu",
        methods=(*only(6, *FEW), CHOSEN),
    ),
    regime(
        "neu-det-tuned",
        "NEU, weights swept there",
        replace(neu(SCENES), steps=600),
        teacher="teacher-neu",
        methods=only(6, "none", "softmax", "BCKD"),
        **WIDE_SWEEP,
    ),
    regime(
        "neu-det-pretrained",
        "NEU, from ImageNet weights, weights of the scenes",
        replace(pretrained(neu(SCENES)), steps=300),
        teacher="teacher-neu-pretrained",
        methods=only(6, "none", "softmax", "BCKD"),
    ),
    regime(
        "neu-det-why",
        "where softmax distillation loses AP on NEU",
        replace(neu(SCENES), steps=600),
        teacher="teacher-neu",
        methods=(
            variant("softmax at positives", "softmax", softmax_places="positives"),
            variant("softmax at background", "softmax", softmax_places="background"),
        ),
        shared=("none", "softmax"),
        shared_from="neu-det",
    ),
)

"""Single choices changed: the paper's own, where a term looks, temperatures, weights."""

from __future__ import annotations

from bckd.studies.methods import ld, variant, weighted
from bckd.studies.regimes import SCENES, regime

_SOFTMAX = "softmax + L_loc"

QUESTIONS = (
    regime(
        "ablations",
        "the paper's own choices, one changed at a time (two seeds, a first look)",
        SCENES,
        methods=(
            variant("BCKD, weight detached", "BCKD", binary_detach=True),
            variant("BCKD, beta 0", "BCKD", binary_beta=0.0),
            variant("BCKD, beta 2", "BCKD", binary_beta=2.0),
            variant("BCKD, IoU", "BCKD", iou_kind="iou"),
            variant("BCKD, every level", "BCKD", gate_levels=False),
        ),
        seeds=(0, 1),
        shared=("none", "BCKD"),
    ),
    regime(
        "why",
        "where softmax distillation with L_loc gets its AP from",
        SCENES,
        methods=(
            variant("softmax at positives + L_loc", _SOFTMAX, softmax_places="positives"),
            variant("softmax at background + L_loc", _SOFTMAX, softmax_places="background"),
            variant("BCKD, L_loc by p_t", "BCKD", iou_weighting="teacher"),
        ),
        shared=("none", "L_loc", "BCKD", _SOFTMAX),
    ),
)

WEIGHTS = (
    regime(
        "temperature",
        "softmax distillation at other temperatures (published: 2)",
        SCENES,
        methods=(
            variant("softmax, T 1", "softmax", softmax_temperature=1.0),
            variant("softmax, T 4", "softmax", softmax_temperature=4.0),
        ),
        shared=("none", "softmax"),
    ),
    regime(
        "weights",
        "a1 : a2 of BCKD, and softmax + L_loc beyond its sweep (two seeds, a first look)",
        SCENES,
        methods=(
            *(
                weighted(f"BCKD, {a1} : {a2}", binary=float(a1), iou=float(a2))
                for a1 in (1, 4, 16)
                for a2 in (4, 16, 64)
                if (a1, a2) != (1, 16)  # in "recipe-search"
            ),
            weighted("BCKD, 64 : 256", binary=64.0, iou=256.0),
            weighted("softmax + L_loc, 3 : 16", softmax=3.0, iou=16.0),
            weighted("softmax + L_loc, 12 : 64", softmax=12.0, iou=64.0),
        ),
        seeds=(200, 201),
        shared=("BCKD, 1 : 16",),
        shared_from="recipe-search",
    ),
    regime(
        "factor-16",
        "BCKD at the factor 16, which the sweep leaves open",
        SCENES,
        methods=(weighted("BCKD, 16 : 64", binary=16.0, iou=64.0),),
        seeds=(0, 1, 2, 3, 4),
        shared=("none", "softmax", "BCKD", _SOFTMAX),
    ),
)

LD_GRID = regime(
    "ld",
    "LD: softmax KD and its own terms swept apart, on the sweep's seeds",
    SCENES,
    methods=tuple(
        weighted(f"LD, {softmax:g} : {own:g}", **ld(6 / 8, (softmax, own)))
        for softmax in (0.25, 1.0, 4.0, 16.0)
        for own in (0.25, 1.0, 4.0, 16.0)
    ),
    seeds=(100, 101),
    scales_from=None,
)

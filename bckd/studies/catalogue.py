"""The studies whose results are published, each by its name, and the models they need."""

from __future__ import annotations

from dataclasses import replace

from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies import photograph_studies, photographs
from bckd.studies.common_starts import EVERY_START, STARTS, fine, start_models
from bckd.studies.data_variants import labelled, neu, pretrained, twelve
from bckd.studies.fine import (
    CANDIDATES,
    FINE,
    METHODS_PUBLISHED,
    softmax_then_bckd,
)
from bckd.studies.fine_regimes import (
    FINE_REGIMES,
    NEU,
    NEU_STARTS,
    ONE,
    ONE_STARTS,
    TWELVE,
    TWELVE_STARTS,
)
from bckd.studies.methods import methods, only
from bckd.studies.questions import LD_GRID, QUESTIONS, WEIGHTS
from bckd.studies.recipe_search import RECIPE
from bckd.studies.regimes import REGIMES, SCENES, regime
from bckd.studies.study import Study

_TEACHER = PRESETS["scenes-teacher"][1]

# Models that studies need beside the committed teacher, trained on first use.
MODELS: dict[str, Recipe] = {
    "teacher-one": labelled(_TEACHER, "_one"),
    "teacher-four": labelled(_TEACHER, "_four"),
    "teacher-twelve": twelve(_TEACHER),
    "teacher-weak": replace(_TEACHER, steps=800),
    "teacher-neu": replace(neu(_TEACHER), steps=1500),
    "teacher-neu-pretrained": replace(pretrained(neu(_TEACHER)), steps=1000),
    "student": replace(SCENES, seed=900),
    **start_models(SCENES, EVERY_START),
    **start_models(ONE, ONE_STARTS),
    **start_models(TWELVE, TWELVE_STARTS),
    **start_models(NEU, NEU_STARTS),
    **photographs.MODELS,
}

_NOISE = regime(
    "noise",
    "what moves AP where nothing differs: six common starts, two orders of images each",
    fine(SCENES),
    methods=only(6, "none", "softmax", "BCKD"),
    starts=STARTS[:6],
    seeds=tuple(range(12)),
)

_OF_PHOTOGRAPHS = {
    **{x.name: x for x in (*METHODS_PUBLISHED, *CANDIDATES)},
    # What softmax KD is in goes by the number of classes.
    **methods(photographs.CLASSES),
    "softmax, then BCKD": softmax_then_bckd(photographs.CLASSES),
}
_PHOTOGRAPHS = photograph_studies.studies(_OF_PHOTOGRAPHS)
_PHOTOGRAPHS_GPU = photograph_studies.gpu_studies(_OF_PHOTOGRAPHS)
_FROM_SEEDS = (*REGIMES, *QUESTIONS, *WEIGHTS, LD_GRID, *RECIPE)
_FROM_STARTS = (_NOISE, *FINE, *FINE_REGIMES, *_PHOTOGRAPHS, *_PHOTOGRAPHS_GPU)

STUDIES: dict[str, Study] = {study.name: study for study in (*_FROM_SEEDS, *_FROM_STARTS)}
# Studies that run one after the other under one name.
GRIDS: dict[str, tuple[Study, ...]] = {
    "photographs-all": _PHOTOGRAPHS,
    "photographs-gpu": _PHOTOGRAPHS_GPU,
}
# Studies from common starts that have been run to their end; the others are awaited.
_WHOLE = {
    *("noise", "fine", "fine-shapes", "fine-search", "fine-confirm"),
    *("fine-one", "fine-twelve", "fine-neu", "photographs", "fine-own-factors"),
    *("photographs-shared", "photographs-shared-tenth", "photographs-shared-none"),
    *("photographs-shared-tenth-swept", "fine-neu-parts", "photographs-shared-narrow"),
    *("photographs-shared-tenth-thresholds", "photographs-shared-tenth-boxes"),
    *("photographs-shared-none-apart", "photographs-shared-none-thresholds"),
    *("photographs-shared-confirm", "photographs-shared-none-pseudo"),
    "photographs-shared-tenth-pseudo",
}
AWAITED = frozenset(x.name for x in _FROM_STARTS) - _WHOLE

"""The studies whose results are published, each by its name, and the models they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bckd.image_size import ImageSize
from bckd.recipes import DataConfig, Recipe
from bckd.recipes.presets import PRESETS, SCENES_TEACHER
from bckd.studies import photographs
from bckd.studies.common_starts import STARTS, fine, start_models
from bckd.studies.fine import FINE
from bckd.studies.study import Method, Study

# Softmax distillation averages over classes: the official weight 10 at 80 classes is K / 8.
# LD's terms are sums over images: the official .25, for the two images of a GPU, is 1/32 for the
# sixteen of a step here, on positives and on the valuable region.
LD_WEIGHT = 0.25 * 2 / 16
# The best factors of study "ld": on softmax KD's published weight, and on LD's own.
LD_FACTORS = (4.0, 4.0)


def _ld(softmax: float, factors: tuple[float, float]) -> dict[str, float]:
    """The weights of LD, its softmax KD and its own terms each times a factor."""
    own = LD_WEIGHT * factors[1]
    return {"ld": own, "ld_region": own, "softmax": softmax * factors[0]}


def methods(classes: int) -> dict[str, Method]:
    """What is compared, with published weights."""
    softmax = classes / 8
    found = (
        Method("none"),
        Method("softmax", {"softmax": softmax}),
        Method("L_cls", {"binary": 1.0}),
        Method("L_loc", {"iou": 4.0}),
        Method("BCKD", {"binary": 1.0, "iou": 4.0}),
        Method("softmax + L_loc", {"softmax": softmax, "iou": 4.0}),
        Method("LD", _ld(softmax, LD_FACTORS), swept=False),
        Method(
            "self",
            {"binary": 1.0, "iou": 4.0},
            swept=False,
            scale_of="BCKD",
            teacher="student",
        ),
    )
    return {method.name: method for method in found}


def _only(classes: int, *names: str) -> tuple[Method, ...]:
    return tuple(methods(classes)[name] for name in names)


_SCENES = PRESETS["scenes"][1]
_SHORT = replace(_SCENES, steps=300)
_TEACHER = PRESETS["scenes-teacher"][1]


def _labelled(recipe: Recipe, suffix: str) -> Recipe:
    """The same pictures with other annotations."""
    data = replace(
        recipe.data,
        train_annotations=f"annotations/instances_train{suffix}.json",
        val_annotations=f"annotations/instances_val{suffix}.json",
    )
    return replace(recipe, data=data)


def _fresh(recipe: Recipe) -> Recipe:
    """Evaluated on scenes that no choice was made on."""
    data = replace(
        recipe.data,
        val_images="../scenes-fresh/val",
        val_annotations="../scenes-fresh/annotations/instances_val.json",
    )
    return replace(recipe, data=data)


def _twelve(recipe: Recipe) -> Recipe:
    """Scenes of twelve classes."""
    return replace(recipe, data=replace(recipe.data, root=Path("data/scenes12")))


def _neu(recipe: Recipe) -> Recipe:
    data = DataConfig(
        root=Path("data/neu_det"),
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(short_side=160, long_side=160),
        workers=0,
        cache=True,
    )
    model = replace(recipe.model, strides=(8, 16, 32, 64), anchor_scale=4.0)
    return replace(recipe, data=data, model=model)


def _pretrained(recipe: Recipe) -> Recipe:
    """From ImageNet weights of MobileNetV2, at the learning rate of the preset "custom"."""
    model = replace(recipe.model, backbone="mobilenet_v2", pretrained=True)
    optimisation = replace(recipe.optimisation, learning_rate=1e-3)
    return replace(recipe, model=model, optimisation=optimisation)


# Models that studies need beside the committed teacher, trained on first use.
MODELS: dict[str, Recipe] = {
    "teacher-one": _labelled(_TEACHER, "_one"),
    "teacher-four": _labelled(_TEACHER, "_four"),
    "teacher-twelve": _twelve(_TEACHER),
    "teacher-weak": replace(_TEACHER, steps=800),
    "teacher-neu": replace(_neu(_TEACHER), steps=1500),
    "teacher-neu-pretrained": replace(_pretrained(_neu(_TEACHER)), steps=1000),
    "student": replace(_SCENES, seed=900),
    **start_models(_SCENES),
    **photographs.MODELS,
}

SCALES = (0.0625, 0.25, 1.0, 4.0, 16.0)
_FEW = ("none", "softmax", "BCKD", "softmax + L_loc")
_CORE = (*_FEW, "L_cls")


def _regime(name: str, title: str, base: Recipe, **settings: Any) -> Study:
    """A regime in which the core methods are compared; by default at the scales of "base".

    Methods that "base" has already run with the same recipe and seeds are `shared`.
    """
    defaults: dict[str, Any] = {
        "teacher": SCENES_TEACHER,
        "methods": _only(6, *_CORE),
        "seeds": (0, 1, 2),
        "scales_from": "base",
    }
    return Study(name, title, base, **(defaults | settings))


_OWN_SWEEP = {"scales": SCALES, "sweep_seeds": (100,), "scales_from": None}
# Where the best factor of a method was the largest of these: wider for every method of the study.
_WIDE_SWEEP = _OWN_SWEEP | {"scales": (1 / 64, *SCALES, 64.0, 256.0, 1024.0)}

_REGIMES = (
    Study(
        "base",
        "six classes, 1200 steps",
        _SCENES,
        SCENES_TEACHER,
        tuple(methods(6).values()),
        seeds=(0, 1, 2, 3, 4),
        scales=SCALES,
        sweep_seeds=(100, 101),
        edge_seeds=(102, 103, 104, 105),
    ),
    _regime(
        "four-classes",
        "four classes, look-alikes unlabelled",
        _labelled(_SCENES, "_four"),
        teacher="teacher-four",
        methods=_only(4, *_CORE),
        **_OWN_SWEEP,
    ),
    _regime(
        "steps-2400",
        "six classes, 2400 steps",
        replace(_SCENES, steps=2400),
        methods=_only(6, *_FEW),
    ),
    _regime(
        "steps-4800",
        "six classes, 4800 steps (two seeds)",
        replace(_SCENES, steps=4800),
        methods=_only(6, "BCKD", "softmax + L_loc"),
        seeds=(0, 1),
    ),
    _regime(
        "steps-300",
        "six classes, 300 steps",
        _SHORT,
    ),
    _regime(
        "one-class",
        "one class, 300 steps",
        _labelled(_SHORT, "_one"),
        teacher="teacher-one",
        methods=_only(1, "none", "L_cls", "L_loc", "BCKD"),
    ),
    _regime(
        "one-class-1200",
        "one class, 1200 steps",
        _labelled(_SCENES, "_one"),
        teacher="teacher-one",
        methods=_only(1, "none", "L_cls", "L_loc", "BCKD"),
        **_OWN_SWEEP,
    ),
    _regime(
        "twelve-classes",
        "twelve classes, 1200 steps",
        _twelve(_SCENES),
        teacher="teacher-twelve",
        methods=_only(12, *_CORE),
        **_OWN_SWEEP,
    ),
    _regime(
        "same-start",
        "300 more steps from a supervised student",
        _SHORT,
        starts=("student",),
        methods=_only(6, *_FEW),
    ),
    _regime(
        "same-start-1200",
        "1200 more steps from a supervised student",
        _SCENES,
        starts=("student",),
        methods=_only(6, *_FEW),
    ),
    _regime(
        "weak-teacher",
        "a teacher of 800 steps in place of 2000",
        _SCENES,
        teacher="teacher-weak",
        methods=_only(6, *_FEW[1:]),
        shared=("none",),
    ),
)


def _variant(name: str, method: str, **changes: Any) -> Method:
    """A method of six classes with some of its options changed, at the scale of the original.

    Args:
        changes: fields of `LossOptions`.
    """
    dotted = {f"losses.{field}": value for field, value in changes.items()}
    return replace(methods(6)[method], name=name, changes=dotted, swept=False, scale_of=method)


_SOFTMAX = "softmax + L_loc"

_QUESTIONS = (
    _regime(
        "ablations",
        "the paper's own choices, one changed at a time (two seeds, a first look)",
        _SCENES,
        methods=(
            _variant("BCKD, weight detached", "BCKD", binary_detach=True),
            _variant("BCKD, beta 0", "BCKD", binary_beta=0.0),
            _variant("BCKD, beta 2", "BCKD", binary_beta=2.0),
            _variant("BCKD, IoU", "BCKD", iou_kind="iou"),
            _variant("BCKD, every level", "BCKD", gate_levels=False),
        ),
        seeds=(0, 1),
        shared=("none", "BCKD"),
    ),
    _regime(
        "why",
        "where softmax distillation with L_loc gets its AP from",
        _SCENES,
        methods=(
            _variant("softmax at positives + L_loc", _SOFTMAX, softmax_places="positives"),
            _variant("softmax at background + L_loc", _SOFTMAX, softmax_places="background"),
            _variant("BCKD, L_loc by p_t", "BCKD", iou_weighting="teacher"),
        ),
        shared=("none", "L_loc", "BCKD", _SOFTMAX),
    ),
)


def _weighted(name: str, **weights: float) -> Method:
    """A method with these weights, whatever a sweep chose."""
    return Method(name, weights, swept=False)


_WEIGHTS = (
    _regime(
        "temperature",
        "softmax distillation at other temperatures (published: 2)",
        _SCENES,
        methods=(
            _variant("softmax, T 1", "softmax", softmax_temperature=1.0),
            _variant("softmax, T 4", "softmax", softmax_temperature=4.0),
        ),
        shared=("none", "softmax"),
    ),
    _regime(
        "weights",
        "a1 : a2 of BCKD, and softmax + L_loc beyond its sweep (two seeds, a first look)",
        _SCENES,
        methods=(
            *(
                _weighted(f"BCKD, {a1} : {a2}", binary=float(a1), iou=float(a2))
                for a1 in (1, 4, 16)
                for a2 in (4, 16, 64)
                if (a1, a2) != (1, 16)  # in "recipe-search"
            ),
            _weighted("BCKD, 64 : 256", binary=64.0, iou=256.0),
            _weighted("softmax + L_loc, 3 : 16", softmax=3.0, iou=16.0),
            _weighted("softmax + L_loc, 12 : 64", softmax=12.0, iou=64.0),
        ),
        seeds=(200, 201),
        shared=("BCKD, 1 : 16",),
        shared_from="recipe-search",
    ),
    _regime(
        "factor-16",
        "BCKD at the factor 16, which the sweep leaves open",
        _SCENES,
        methods=(_weighted("BCKD, 16 : 64", binary=16.0, iou=64.0),),
        seeds=(0, 1, 2, 3, 4),
        shared=("none", "softmax", "BCKD", _SOFTMAX),
    ),
)

_LD_GRID = _regime(
    "ld",
    "LD: softmax KD and its own terms swept apart, on the sweep's seeds",
    _SCENES,
    methods=tuple(
        _weighted(f"LD, {softmax:g} : {own:g}", **_ld(6 / 8, (softmax, own)))
        for softmax in (0.25, 1.0, 4.0, 16.0)
        for own in (0.25, 1.0, 4.0, 16.0)
    ),
    seeds=(100, 101),
    scales_from=None,
)

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

_RECIPE = (
    _regime(
        "recipe-search",
        "combinations that might beat BCKD, on seeds of their own",
        _SCENES,
        methods=_CANDIDATES,
        seeds=(200, 201),
    ),
    _regime(
        "recipe-confirm",
        "six classes, 1200 steps, fresh seeds and images",
        _fresh(_SCENES),
        methods=(CHOSEN, *_only(6, "BCKD", _SOFTMAX)),
        seeds=(300, 301, 302, 303),
    ),
    _regime(
        "neu-det",
        "NEU, weights of the scenes",
        replace(_neu(_SCENES), steps=600),
        teacher="teacher-neu",
        methods=(*_only(6, *_FEW), CHOSEN),
    ),
    _regime(
        "neu-det-tuned",
        "NEU, weights swept there",
        replace(_neu(_SCENES), steps=600),
        teacher="teacher-neu",
        methods=_only(6, "none", "softmax", "BCKD"),
        **_WIDE_SWEEP,
    ),
    _regime(
        "neu-det-pretrained",
        "NEU, from ImageNet weights, weights of the scenes",
        replace(_pretrained(_neu(_SCENES)), steps=300),
        teacher="teacher-neu-pretrained",
        methods=_only(6, "none", "softmax", "BCKD"),
    ),
    _regime(
        "neu-det-why",
        "where softmax distillation loses AP on NEU",
        replace(_neu(_SCENES), steps=600),
        teacher="teacher-neu",
        methods=(
            _variant("softmax at positives", "softmax", softmax_places="positives"),
            _variant("softmax at background", "softmax", softmax_places="background"),
        ),
        shared=("none", "softmax"),
        shared_from="neu-det",
    ),
)

_NOISE = _regime(
    "noise",
    "what moves AP where nothing differs: six common starts, two orders of images each",
    fine(_SCENES),
    methods=_only(6, "none", "softmax", "BCKD"),
    starts=STARTS[:6],
    seeds=tuple(range(12)),
)

_PHOTOGRAPHS = photographs.studies(methods(photographs.CLASSES))
_PHOTOGRAPHS_GPU = photographs.gpu_studies(methods(photographs.CLASSES))
_FROM_SEEDS = (*_REGIMES, *_QUESTIONS, *_WEIGHTS, _LD_GRID, *_RECIPE)
_FROM_STARTS = (_NOISE, *FINE, *_PHOTOGRAPHS, *_PHOTOGRAPHS_GPU)

STUDIES: dict[str, Study] = {study.name: study for study in (*_FROM_SEEDS, *_FROM_STARTS)}
# Studies that run one after the other under one name.
GRIDS: dict[str, tuple[Study, ...]] = {
    "photographs-all": _PHOTOGRAPHS,
    "photographs-gpu": _PHOTOGRAPHS_GPU,
}
# Studies that have not been run to their end yet.
AWAITED = frozenset(study.name for study in (*FINE, *_PHOTOGRAPHS, *_PHOTOGRAPHS_GPU))

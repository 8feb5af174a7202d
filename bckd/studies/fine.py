"""The field's methods side by side, from common starts and at comparable pulls.

Published weights belong to other detectors, images and batches. Here a method's weights are
multiplied by a factor first at which its distillation pulls as much as the labels do, on the
sweep's starts (`UNITS`, measured by `bckd.studies.pull.weights_of_equal_pull`); the sweep tries a
ninth of that to 81 times as much: a share of the gradient of 10, 25, 50, 75, 90, 96 and 99 %; of
methods that are best at 10 %, also 4 and 1 %.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bckd.recipes import Recipe
from bckd.recipes.presets import SCENES_TEACHER
from bckd.studies.common_starts import FRESH_IMAGES, FRESH_STARTS, STARTS, fine
from bckd.studies.regimes import SCENES
from bckd.studies.study import Method, Study

# Factors on the pull that is equal to the labels'.
SCALES = (1 / 9, 1 / 3, 1.0, 3.0, 9.0, 27.0, 81.0)
SCALES_BELOW = (1 / 27, 1 / 81)  # of methods that are best at the smallest
SEEDS = (0, 1, 2, 3, 4, 5)
SWEEP_SEEDS = (6, 7)  # whose starts no other seed has
EDGE_SEEDS = (18, 19, 30, 31)  # of the same starts, in other orders, for a best factor at the edge
CONFIRMING_SEEDS = (8, 9, 10, 11, 12, 13, 14, 15)  # nor these

CLASSES = 6
_SOFTMAX = {"softmax": CLASSES / 8}
_BCKD = {"binary": 1.0, "iou": 4.0}


def _options(**changes: Any) -> dict[str, Any]:
    return {f"losses.{name}": value for name, value in changes.items()}


# The factor on each method's weights at which it pulls as much as the labels do: the geometric mean
# of the sweep's two starts, by `weights_of_equal_pull` with a share of .5 and the first
# four batches.
UNITS = {
    "softmax": 2.0,
    "L_cls": 0.82,
    "L_loc": 1.2,
    "BCKD": 0.49,
    "softmax + L_loc": 0.74,
    "LD": 1.1,
    "DIST": 0.49,
    "YOLOv6": 2.6,
    "FitNet": 0.067,
    "fine-grained": 0.2,
    "GID": 0.74,
    "DeFeat": 0.02,
    "CWD": 0.018,
    "PKD": 0.6,
    "MGD": 7.3,
    "FGD": 0.0077,
    "CrossKD": 0.42,
    "BCKD, weight detached": 0.73,
    "BCKD, beta 0": 0.14,
    "BCKD, beta 2": 0.79,
    "BCKD, IoU": 0.5,
    "BCKD, every level": 0.49,
    "BCKD, groups of two": 0.58,
    "BCKD, groups of two, every level": 0.58,  # that of the one before: one choice apart
    "BCKD, held shares": 0.49,
    "softmax, T 1": 2.6,
    "softmax, T 4": 1.7,
    "softmax at positives + BCKD": 0.45,
    "softmax at positives, L_cls elsewhere, L_loc": 0.45,
    "softmax, then BCKD": 0.39,
    "CrossKD, our terms": 0.33,
}


# What is compared, with published weights: softmax KD's 10 at 80 classes, LD's sums over the two
# images of a GPU. Of terms with several (CWD's 5 and 10, PKD's 6 and 10) it does not matter which,
# since factors count from equal pull.
METHODS_PUBLISHED = (
    Method("none"),
    Method("softmax", _SOFTMAX),
    Method("L_cls", {"binary": 1.0}),
    Method("L_loc", {"iou": 4.0}),
    Method("BCKD", _BCKD),
    Method("softmax + L_loc", _SOFTMAX | {"iou": 4.0}),
    Method("LD", _SOFTMAX | {"ld": 0.25 / 8, "ld_region": 0.25 / 8}),
    Method("DIST", {"dist": 1.0}),
    Method("YOLOv6", {"yolov6": 1.0}),
    Method("FitNet", {"fitnet": 1.0}),
    Method("fine-grained", {"fine_grained": 0.01}),
    Method("GID", {"general_instance": 1.0}),
    Method("DeFeat", {"defeat": 1.0}),
    Method("CWD", {"cwd": 10.0}),
    Method("PKD", {"pkd": 6.0}),
    Method("MGD", {"mgd": 2e-5}),
    Method("FGD", {"fgd": 1.0}),
    Method("CrossKD", {"crosskd": 1.0}),
)


def _shape(name: str, of: str, changes: dict[str, Any]) -> Method:
    """A method with one choice changed, at the factor that is best for it as published."""
    weights = _SOFTMAX if of == "softmax" else _BCKD
    return Method(name, weights, changes, swept=False, scale_of=of)


# One choice changed at a time, at equal pull.
SHAPES = (
    _shape("BCKD, weight detached", "BCKD", _options(binary_detach=True)),
    _shape("BCKD, beta 0", "BCKD", _options(binary_beta=0.0)),
    _shape("BCKD, beta 2", "BCKD", _options(binary_beta=2.0)),
    _shape("BCKD, IoU", "BCKD", _options(iou_kind="iou")),
    _shape("BCKD, every level", "BCKD", _options(gate_levels=False)),
    _shape("BCKD, groups of two", "BCKD", {"images_per_group": 2}),
    # What groups of two change but the gate: the statistics of BatchNorm, here of two images.
    _shape(
        "BCKD, groups of two, every level",
        "BCKD",
        {"images_per_group": 2} | _options(gate_levels=False),
    ),
    # The shares of the pull that its terms have on average, held by steering.
    _shape("BCKD, held shares", "BCKD", {"shares": ("binary=0.57", "iou=0.37")}),
    _shape("softmax, T 1", "softmax", _options(softmax_temperature=1.0)),
    _shape("softmax, T 4", "softmax", _options(softmax_temperature=4.0)),
)


def _halves(first: str, second: str) -> Method:
    """Two methods together, each with half of the pull."""
    methods = {method.name: method for method in METHODS_PUBLISHED}
    weights = {
        term: UNITS[name] / 2 * weight
        for name in (first, second)
        for term, weight in methods[name].weights.items()
    }
    return Method(f"{first} + {second}", weights)


_ONE_THEN_THE_OTHER = _options(softmax_until=0.5, binary_from=0.5)


def softmax_then_bckd(classes: int) -> Method:
    """Softmax distillation in the first half of a run, L_cls in the second, L_loc throughout."""
    weights = {"softmax": classes / 8} | _BCKD
    return Method("softmax, then BCKD", weights, _ONE_THEN_THE_OTHER)


def factors_of_their_own(softmax: float, bckd: float) -> Method:
    """As `softmax_then_bckd` of six classes, but with a factor for each protocol.

    Args:
        softmax: on the pull of softmax distillation that is equal to the labels'.
        bckd: likewise of L_cls and, throughout, L_loc.
    """
    weights = {
        "softmax": softmax * UNITS["softmax"] * _SOFTMAX["softmax"],
        **{term: bckd * UNITS["BCKD"] * weight for term, weight in _BCKD.items()},
    }
    return Method("softmax, then BCKD, own factors", weights, _ONE_THEN_THE_OTHER, swept=False)


# What might be above both protocols.
CANDIDATES = (
    Method("softmax at positives + BCKD", _SOFTMAX | _BCKD, _options(softmax_places="positives")),
    Method(
        "softmax at positives, L_cls elsewhere, L_loc",
        _SOFTMAX | _BCKD,
        _options(softmax_places="positives", binary_places="background"),
    ),
    softmax_then_bckd(CLASSES),
    _halves("CWD", "BCKD"),
    _halves("PKD", "BCKD"),
    _halves("MGD", "BCKD"),  # the best of `fine`
    Method("CrossKD, our terms", {"crosskd_bckd": 1.0}),
)


# What goes on to the confirmation: the best of `fine-search` by its sweep, what it has to be above
# and two more to look at, each at the best factor of its sweep.
CONFIRMED = {
    "MGD + BCKD": 1 / 3,
    "none": 1.0,
    "softmax": 1.0,
    "BCKD": 27.0,
    "softmax + L_loc": 3.0,
    "MGD": 1 / 9,
    "softmax, then BCKD": 9.0,  # the best of the search without features
}


def _confirmed(name: str) -> Method:
    (method,) = (x for x in (*METHODS_PUBLISHED, *CANDIDATES) if x.name == name)
    weights = {term: CONFIRMED[name] * weight for term, weight in method.weights.items()}
    return replace(method, weights=weights, swept=False)


def fine_base() -> Recipe:
    """The recipe of all runs, but for method and seed."""
    return fine(SCENES)


def _at_equal_pull(method: Method) -> Method:
    unit = UNITS.get(method.name, 1.0)
    return replace(method, weights={name: unit * x for name, x in method.weights.items()})


# Of a study that takes its factors from elsewhere.
UNSWEPT: dict[str, Any] = {
    "scales": (),
    "sweep_seeds": (),
    "edge_seeds": (),
    "scales_below": (),
    "sweep_data": None,
}


def fine_study(name: str, title: str, methods: tuple[Method, ...], **settings: Any) -> Study:
    """A study from common starts, by default of six classes and with a sweep of its own.

    Args:
        methods: with published weights.
        settings: further fields of the study.
    """
    defaults: dict[str, Any] = {
        "seeds": SEEDS,
        "scales": SCALES,
        "sweep_seeds": SWEEP_SEEDS,
        "edge_seeds": EDGE_SEEDS,
        "scales_below": SCALES_BELOW,
        "starts": STARTS,
        "sweep_data": SCENES.data,
        "base": fine_base(),
        "teacher": SCENES_TEACHER,
    }
    found = tuple(_at_equal_pull(method) for method in methods)
    return Study(name, title, methods=found, **(defaults | settings))


FINE = (
    fine_study("fine", "the field's methods, from common starts", METHODS_PUBLISHED),
    fine_study(
        "fine-shapes",
        "the paper's own choices, from common starts and at equal pull",
        SHAPES,
        **UNSWEPT,
        scales_from="fine",
        shared=("none", "softmax", "BCKD"),
        shared_from="fine",
    ),
    fine_study(
        "fine-search",
        "combinations that might be above both protocols, from common starts",
        CANDIDATES,
        shared=("none", "softmax", "BCKD", "softmax + L_loc"),
        shared_from="fine",
    ),
    fine_study(
        "fine-confirm",
        "the best combination and its rivals, fresh starts and scenes",
        tuple(map(_confirmed, CONFIRMED)),
        base=fine(SCENES, FRESH_IMAGES),
        seeds=CONFIRMING_SEEDS,
        starts=FRESH_STARTS,
        **UNSWEPT,
    ),
    fine_study(
        "fine-own-factors",
        "one protocol after the other, each at the factor that is best for it alone",
        (factors_of_their_own(CONFIRMED["softmax"], CONFIRMED["BCKD"]),),
        **UNSWEPT,
        shared=("none", "softmax", "BCKD", "softmax + L_loc"),
        shared_from="fine",
    ),
)

"""The methods that are compared from seeds, with published weights, and variants of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bckd.studies.study import Method

# Softmax distillation averages over classes: the official weight 10 at 80 classes is K / 8.
# LD's terms are sums over images: the official .25, for the two images of a GPU, is 1/32 for the
# sixteen of a step here, on positives and on the valuable region.
LD_WEIGHT = 0.25 * 2 / 16
# The best factors of study "ld": on softmax KD's published weight, and on LD's own.
LD_FACTORS = (4.0, 4.0)

PSEUDO = "pseudo-labels"  # to learn from a teacher's boxes as from labels


def ld(softmax: float, factors: tuple[float, float]) -> dict[str, float]:
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
        Method("LD", ld(softmax, LD_FACTORS), swept=False),
        Method(
            "self",
            {"binary": 1.0, "iou": 4.0},
            swept=False,
            scale_of="BCKD",
            teacher="student",
        ),
    )
    return {method.name: method for method in found}


def only(classes: int, *names: str) -> tuple[Method, ...]:
    """Those of `methods` with these names, in their order."""
    return tuple(methods(classes)[name] for name in names)


def variant(name: str, method: str, **changes: Any) -> Method:
    """A method of six classes with some of its options changed, at the scale of the original.

    Args:
        changes: fields of `LossOptions`.
    """
    dotted = {f"losses.{field}": value for field, value in changes.items()}
    return replace(methods(6)[method], name=name, changes=dotted, swept=False, scale_of=method)


def weighted(name: str, **weights: float) -> Method:
    """A method with these weights, whatever a sweep chose."""
    return Method(name, weights, swept=False)

"""The design that sees one point of AP: all methods go on from the same trained students.

From scratch a student's AP moves by 2 to 4 points from seed to seed, whatever it learns from; from
one start it moves by tenths. Differences are measured at the same start, with the same order of
images, on many images, and of the average of the last steps' weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bckd.recipes import Recipe

EARLY, LATE = 400, 1200  # steps of training that starts have behind them, in turn
STEPS = 600  # that all methods go on for
EMA = 0.99
FINE_IMAGES = "scenes-fine"  # 2,000 scenes that no sweep was judged on
FRESH_IMAGES = "scenes-confirm"  # 2,000 that nothing was judged on before


def starts(name: str = "start", count: int = 16) -> tuple[str, ...]:
    """The names of that many starts, of as many seeds, early and late in turn."""
    return tuple(f"{name}-{n}" for n in range(count))


EVERY_START = starts()
STARTS, FRESH_STARTS = EVERY_START[:12], EVERY_START[8:]  # on the last eight no choice was made


def start_models(base: Recipe, names: Sequence[str] = STARTS) -> dict[str, Recipe]:
    """The students without distillation that methods go on from, by their name."""
    return {
        name: replace(base, seed=900 + n, steps=EARLY if n % 2 else LATE)
        for n, name in enumerate(names)
    }


def is_late(seed: int) -> bool:
    """Whether the runs of a seed go on from a late start; every study has an even count of them."""
    return seed % 2 == 0


def fine(base: Recipe, images: str = FINE_IMAGES) -> Recipe:
    """The recipe of going on, evaluated on other scenes.

    Args:
        base: its validation annotations are those of `images` that have the same name.
        images: the folder beside the recipe's own.
    """
    data = replace(
        base.data,
        val_images=f"../{images}/val",
        val_annotations=f"../{images}/{base.data.val_annotations}",
    )
    return going_on(replace(base, data=data))


def going_on(base: Recipe, steps: int = STEPS) -> Recipe:
    """The recipe of going on; what is evaluated is the average of the last steps' weights."""
    optimisation = replace(base.optimisation, ema=EMA)
    return replace(base, optimisation=optimisation, steps=steps)

"""The design that sees one point of AP: all methods go on from the same trained students.

From scratch a student's AP moves by 2 to 4 points from seed to seed, whatever it learns from; from
one start it moves by tenths. Differences are measured at the same start, with the same order of
images, on many images, and of the average of the last steps' weights.
"""

from __future__ import annotations

from dataclasses import replace

from bckd.recipes import Recipe

EARLY, LATE = 400, 1200  # steps of training that starts have behind them, in turn
STEPS = 600  # that all methods go on for
EMA = 0.99
STARTS = tuple(f"start-{n}" for n in range(12))  # twelve seeds, early and late in turn


def start_models(base: Recipe) -> dict[str, Recipe]:
    """The students without distillation that methods go on from, by their name."""
    return {
        name: replace(base, seed=900 + n, steps=EARLY if n % 2 else LATE)
        for n, name in enumerate(STARTS)
    }


def fine(base: Recipe) -> Recipe:
    """The recipe of going on, evaluated on 2,000 scenes that no choice was made on."""
    data = replace(
        base.data,
        val_images="../scenes-fine/val",
        val_annotations="../scenes-fine/annotations/instances_val.json",
    )
    optimisation = replace(base.optimisation, ema=EMA)
    return replace(base, data=data, optimisation=optimisation, steps=STEPS)

"""The configuration of a run: every setting, the weights of its loss terms, and the presets."""

from bckd.losses.options import LossOptions
from bckd.recipes.loss_weights import LossWeights
from bckd.recipes.recipe import DataConfig, EvaluationConfig, Optimisation, Recipe, Scorer

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "LossOptions",
    "LossWeights",
    "Optimisation",
    "Recipe",
    "Scorer",
]

"""Knowledge distillation for dense object detectors, in the detector's own protocol.

The heart is `bckd.losses.distillation`. What most programs need is offered here, and loaded when
it is first asked for:

    load(source)                    a run, a file or a published name, for its `.predict(image)`
    train(recipe)                   a student, evaluated and saved
    train_with_twin(recipe)         a student with a teacher, and one without
    evaluate(source)                the metrics of a run, or of weights
    recipe_of(run)                  the settings of a run, to train another by
    PRESETS[name].recipe            recipes to start from
    distil(student, teacher, ...)   the loss alone, for a loop of one's own
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bckd.version import __version__

if TYPE_CHECKING:
    from bckd.losses.distil import distil
    from bckd.prediction import load
    from bckd.recipes.presets import PRESETS
    from bckd.training.evaluating import evaluate_saved as evaluate
    from bckd.training.recorded import recipe_of
    from bckd.training.trainer import train
    from bckd.training.twin import train_with_twin

__all__ = [
    "PRESETS",
    "__version__",
    "distil",
    "evaluate",
    "load",
    "recipe_of",
    "train",
    "train_with_twin",
]

_PLACES = {
    "PRESETS": ("bckd.recipes.presets", "PRESETS"),
    "distil": ("bckd.losses.distil", "distil"),
    "evaluate": ("bckd.training.evaluating", "evaluate_saved"),
    "load": ("bckd.prediction", "load"),
    "recipe_of": ("bckd.training.recorded", "recipe_of"),
    "train": ("bckd.training.trainer", "train"),
    "train_with_twin": ("bckd.training.twin", "train_with_twin"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'bckd' has no attribute {name!r}")
    module, own_name = _PLACES[name]
    return getattr(import_module(module), own_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""A detector from what a file says of it: built, and filled with its weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.system.errors import InputError
from bckd.weights.tensor_files import fill

D = TypeVar("D", bound=DenseDetector)


def built(
    path: Path,
    config: DetectorConfig,
    class_names: tuple[str, ...],
    load: Callable[[Detector], None],
) -> Detector:
    """The detector with its weights, in eval mode.

    They are tried on one without memory first: what a file says of its size is not believed.

    Raises:
        InputError: there is no such detector, or the weights do not fit.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is copied
            load(Detector(config, class_names))
    except (ValueError, RuntimeError) as error:  # such as groups that divide no channels
        said = str(error)
        raise InputError(said if str(path) in said else f"{path}: {said}") from error
    return filled(Detector(config, class_names), load)


def filled(detector: D, load: Callable[[D], None]) -> D:
    """The detector with its weights, in eval mode."""
    load(detector)
    detector.eval()
    return detector


def load_strictly(detector: DenseDetector, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights whose names, shapes and kinds all fit.

    Raises:
        InputError: naming the file and the first entries that do not fit, or are not finite.
    """
    fill(detector, tensors, str(path), "holds weights of another model")

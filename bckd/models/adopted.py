"""A module of one's own as a detector: what a recipe, or the module itself, says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bckd.errors import InputError
from bckd.models.dense import DenseDetector
from bckd.models.detector import DetectorConfig
from bckd.models.heads import HEADS
from bckd.structures import DenseOutput


class Adopted(DenseDetector):
    """Any module whose forward takes normalised images (N, 3, H, W) and gives a dense output.

    Args:
        network: the module. Its own `supervision`, `settings` and `normalisation`, where it has
            any, go before the configuration's.
        class_names: the K class names, in the order of its logits.
        strides: of its levels, in pixels.
        config: how its detections are picked and its images normalised, resolved.
    """

    def __init__(
        self,
        network: nn.Module,
        class_names: Sequence[str],
        strides: Sequence[int],
        config: DetectorConfig,
    ) -> None:
        super().__init__()
        self.network = network
        self.class_names, self.strides = tuple(class_names), tuple(strides)
        self.supervision = getattr(network, "supervision", None)
        settings = getattr(network, "settings", config.postprocess)
        self.settings = replace(config, postprocess=settings).resolved().postprocess
        self.normalisation = getattr(network, "normalisation", config.normalisation)

    def forward(self, images: Tensor) -> DenseOutput:
        """The network's dense output of normalised, padded images (N, 3, H, W)."""
        return self.network(images)


def adopt(
    module: nn.Module, class_names: Sequence[str], config: DetectorConfig, who: str
) -> DenseDetector:
    """The module as a detector of these classes; itself, where it is one.

    Args:
        module: its `class_names`, where it has any, have to be these, in any order for a teacher.
        config: of the recipe, resolved.
        who: "student" or "teacher", for messages.

    Raises:
        InputError: it gives no dense output of an image, or of another number of classes.
    """
    if isinstance(module, DenseDetector):
        return module
    names = tuple(getattr(module, "class_names", class_names))
    output = _answer(module, config, who)
    count = output.cls_logits.shape[-1]
    if count != len(names):
        raise InputError(f"the {who} has logits of {count} classes; expected {len(names)}")
    strides = [level.stride for level in output.locations.levels]
    return Adopted(module, names, strides, config)


def check_family(detector: DenseDetector, config: DetectorConfig) -> None:
    """Refuse a student that learns by a family whose losses read what it does not give.

    Raises:
        InputError: naming the family and what is missing.
    """
    if detector.supervision is not None:
        return
    output, family = _answer(detector, config, "student"), HEADS[config.head]
    given = {**output.per_location(), "anchors": output.locations.anchors}
    missing = [name for name in family.reads if given.get(name) is None]
    if missing:
        raise InputError(
            f"the student gives no {missing[0]}, which {family.title} learns by; expected another "
            f"family (--model.head), or a student with a `supervision` of its own"
        )


def _answer(module: nn.Module, config: DetectorConfig, who: str) -> DenseOutput:
    """What a module says of a black image."""
    side = max(config.strides) * 2
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    training = module.training
    with torch.no_grad():
        output = module.eval()(torch.zeros(1, 3, side, side, device=device))
    module.train(training)
    if not isinstance(output, DenseOutput):
        raise InputError(
            f"the {who} gives {type(output).__name__} of an image; expected a "
            f"bckd.structures.DenseOutput, in training as in evaluation"
        )
    return output

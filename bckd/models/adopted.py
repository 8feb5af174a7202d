"""A module of one's own as a detector: what a recipe, or the module itself, says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.heads import HEADS
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.system.precision import computing_in


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
        # Past nn.Module: one that is a module is a part of the network, and not once more of this.
        vars(self)["supervision"] = getattr(network, "supervision", None)
        settings = getattr(network, "settings", config.postprocess)
        self.settings = replace(config, postprocess=settings).resolved().postprocess
        self.normalisation = getattr(network, "normalisation", config.normalisation)

    def forward(self, images: Tensor) -> DenseOutput:
        """The network's dense output of normalised, padded images (N, 3, H, W)."""
        return self.network(images)


def adopt(
    module: nn.Module,
    class_names: Sequence[str],
    config: DetectorConfig,
    who: str,
    autocast: torch.dtype | None = None,
) -> DenseDetector:
    """The module as a detector of these classes; itself, where it is one.

    Args:
        module: its `class_names`, where it has any, have to be these, in any order for a teacher.
        config: of the recipe, resolved.
        who: "student" or "teacher", for messages.
        autocast: what it will compute in; None: float32.

    Raises:
        InputError: what it gives of a black image is no dense output of these classes.
    """
    if isinstance(module, Detector):
        return module
    names = tuple(getattr(module, "class_names", class_names))
    images = _black(module, config)
    output = _answer(module, images, who, autocast)
    check_output(output, images, len(names), who)
    if isinstance(module, DenseDetector):
        return module
    strides = [level.stride for level in output.locations.levels]
    return Adopted(module, names, strides, config)


def check_family(detector: DenseDetector, config: DetectorConfig) -> None:
    """Refuse a student that learns by a family whose losses read what it does not give.

    Raises:
        InputError: naming the family and what is missing.
    """
    if getattr(detector, "supervision", None) is not None:
        return
    output = _answer(detector, _black(detector, config), "student")
    family = HEADS[config.head]
    given = {**output.per_location(), "anchors": output.locations.anchors}
    missing = [name for name in family.reads if given.get(name) is None]
    if missing:
        raise InputError(
            f"the student gives no {missing[0]}, which {family.title} learns by; expected another "
            f"family (--model.head), or a student with a `supervision` of its own"
        )


def check_output(output: DenseOutput, images: Tensor, classes: int, who: str) -> None:
    """Refuse a dense output that is not what `DenseOutput` says of itself.

    Args:
        output: of these images (N, 3, H, W).
        classes: K.
        who: gave it, for messages.

    Raises:
        InputError: naming the field, its shape or kind, and what was expected.
    """
    found = output.cls_logits.shape[-1]
    if found != classes:
        raise InputError(f"the {who} has logits of {found} classes; expected {classes}")
    for level in output.locations.levels:
        cells = tuple(-(-side // level.stride) for side in images.shape[-2:])
        if (level.height, level.width) != cells:
            raise InputError(
                f"the {who} has {level.height} x {level.width} cells on its level of stride "
                f"{level.stride}, of images of {images.shape[-2]} x {images.shape[-1]} pixels; "
                f"expected {cells[0]} x {cells[1]}"
            )
    count = sum(output.locations.counts)
    for name, (value, shape) in _expected(output, (len(images), count), classes).items():
        if tuple(value.shape) != shape:
            raise InputError(
                f"the {who}'s {name} is {tuple(value.shape)}; expected {shape}, as its levels "
                f"have {count} locations"
            )
        if value.dtype != torch.float32:
            raise InputError(
                f"the {who}'s {name} is of {str(value.dtype).removeprefix('torch.')}; expected "
                f"float32, under autocast too (logits.float(), before boxes are made of them)"
            )
        if not value.isfinite().all():
            raise InputError(f"the {who}'s {name} is not finite on a black image")


def _expected(
    output: DenseOutput, rows: tuple[int, int], classes: int
) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Each tensor of an output by its name, with the shape that it should have."""
    places, count = output.locations, rows[1]
    bins = 0 if output.box_logits is None else output.box_logits.shape[-1]
    shapes = {"cls_logits": (classes,), "boxes": (4,), "box_logits": (4, bins), "deltas": (4,)}
    found = {
        name: (value, (*rows, *shapes.get(name, ())))
        for name, value in output.per_location().items()
    }
    found["locations.centres"] = (places.centres, (count, 2))
    found["locations.strides"] = (places.strides, (count,))
    if places.anchors is not None:
        found["locations.anchors"] = (places.anchors, (count, 4))
    return found


def _black(module: nn.Module, config: DetectorConfig) -> Tensor:
    """A black image (1, 3, H, W) of two cells a side on the coarsest level."""
    side = max([*config.strides, *getattr(module, "strides", ())]) * 2
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    return torch.zeros(1, 3, side, side, device=device)


@torch.no_grad()
def _answer(
    module: nn.Module, images: Tensor, who: str, autocast: torch.dtype | None = None
) -> DenseOutput:
    """What a module says of images, in eval mode."""
    training = module.training
    with computing_in(autocast, images.device):
        output = module.eval()(images)
    module.train(training)
    if not isinstance(output, DenseOutput):
        raise InputError(
            f"the {who} gives {type(output).__name__} of an image; expected a "
            f"bckd.structures.DenseOutput, in training as in evaluation"
        )
    return output

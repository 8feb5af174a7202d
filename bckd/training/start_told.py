"""What a run says of itself before its first step: two lines, and what would help."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bckd.datasets.advice import advice, advice_on_run
from bckd.datasets.annotations import Annotations
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset
from bckd.datasets.object_sizes import object_sizes, quantiles, resized_sides
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.system.precision import autocast_type
from bckd.system.telling import tell

MOST = 3  # sentences of advice, two of them on the data


def tell_start(
    recipe: Recipe,
    training: CocoDataset,
    validation: CocoDataset,
    student: DenseDetector,
    teacher: DenseDetector | None,
) -> None:
    """Tell in two lines what is learnt from, and what learns from it for how long."""
    tell(_data_line(training, validation))
    device = next(student.parameters()).device
    who = f"student {_parameters(student)}"
    if teacher is not None:
        who += f", teacher {_parameters(teacher)}"
    epoch = _epoch(recipe, training)
    precision = _precision(recipe, device, student)
    tell(
        f"model: {who} parameters; {device.type}, {precision}; {recipe.steps} "
        f"steps of {recipe.batch_size} images, {recipe.steps / epoch:.3g} epochs"
    )


def tell_advice(
    recipe: Recipe,
    training: CocoDataset,
    validation: CocoDataset,
    student: DenseDetector,
    own: bool = False,
) -> None:
    """Tell what would help, three sentences at most.

    Args:
        own: whether the student is a module of one's own, whose weights nothing tells.
    """
    found: list[str] = []
    if isinstance(student, Detector):
        anchors = student.supervision.locations([(1, 1)], [8]).anchors
        scale = None if anchors is None else student.config.anchor_scale
        found = advice(training.annotations, training.size, student.strides, scale)
    on_run = advice_on_run(
        images=len(training),
        passes=recipe.steps / _epoch(recipe, training),
        from_scratch=not (own or recipe.start or recipe.model.pretrained),
        validation_images=len(validation),
    )
    for sentence in [*found[: MOST - 1], *on_run, *found[MOST - 1 :]][:MOST]:
        tell(sentence)


def _data_line(training: CocoDataset, validation: CocoDataset) -> str:
    annotations = training.annotations
    unlabelled = len(annotations.unlabelled_images)
    of_these = f", {unlabelled} of them not labelled" if unlabelled else ""
    images = f"data: {len(training)} images{of_these} (val {len(validation)})"
    sizes = [x for x in object_sizes(annotations, training.size) if x.boxes]
    if not sizes:
        known = len(annotations.class_names)
        return (
            f"{images}, {known} classes that the teacher alone knows; resized to "
            f"{_usual_size(annotations, training)}"
        )
    boxes = sum(x.boxes for x in sizes)
    rarest = min(sizes, key=lambda x: x.boxes)
    classes = f"of {len(sizes)} classes (fewest: {rarest.boxes} of {rarest.name!r})"
    if len(sizes) == 1:
        classes = f"of {rarest.name!r}"
    sides, _ = resized_sides(annotations, training.size)
    small, median, large = quantiles(np.sqrt(sides.prod(axis=1)))
    return (
        f"{images}, {boxes} boxes {classes}; "
        f"{small:.0f}, {median:.0f}, {large:.0f} pixels (5, 50, 95 %) after resizing to "
        f"{_usual_size(annotations, training)}"
    )


def _usual_size(annotations: Annotations, training: CocoDataset) -> str:
    """Width and height of most images, once brought to size."""
    shapes = [training.size.resized(x.height, x.width) for x in annotations.images]
    height, width = max(set(shapes), key=shapes.count)
    return f"{width}x{height}"


def _parameters(network: nn.Module) -> str:
    count = sum(x.numel() for x in network.parameters())
    return f"{count / 1e6:.3g} million" if count >= 1e6 else f"{count / 1e3:.3g} thousand"


def _precision(recipe: Recipe, device: torch.device, student: nn.Module) -> str:
    found = autocast_type(recipe.precision, device, student)
    return {None: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}[found]


def _epoch(recipe: Recipe, training: CocoDataset) -> int:
    """Steps of an epoch."""
    return TrainingBatches(training.images, recipe.batch_size, recipe.seed, 0, 0).per_epoch

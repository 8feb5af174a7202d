"""What would help, in sentences: the one place for all of them.

Each names what it saw, the rule, and an option with the value that was computed for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bckd.datasets.annotations import Annotations
from bckd.datasets.fitting import (
    FEW,
    LEVELS,
    MIN_CELLS,
    best_possible_recall,
    enlarged,
    fitting_scale,
    fitting_strides,
    smallest_class,
)
from bckd.datasets.object_sizes import object_sizes, quantiles, resized_sides
from bckd.image_size import ImageSize
from bckd.system.telling import first_of

PASSES = 3  # over the images: from scratch a detector has barely begun
ENOUGH_PASSES = 30
MANY_PASSES = 300  # as many as YOLOv5 takes of COCO from scratch
# From scratch a detector learns far less of 1,000 of COCO's images than from ImageNet weights (He
# et al., Rethinking ImageNet Pre-training, 2019); of 10,000 and more as much.
FEW_IMAGES = 1000
VAL_IMAGES = 50  # AP of fewer moves by several points from one draw of them to the next
RECALL = 0.85  # best possible; one square anchor a cell, as the official recipe's, has .89 on COCO


def advice(
    annotations: Annotations,
    size: ImageSize,
    strides: Sequence[int],
    anchor_scale: float | None = None,
) -> list[str]:
    """What would help a detector to learn from a data set, the most helpful first.

    Args:
        size: how images are brought to size.
        strides: of the detector's levels, in pixels.
        anchor_scale: side of its anchors, in strides; None: it has none.
    """
    if not annotations.learnable_classes:
        return []
    small = _small_objects(annotations, size, strides)
    found = [small, _large_objects(annotations, size, strides, anchor_scale)]
    if small is None:  # else the size comes first: it changes what anchors fit
        found.append(_anchors(annotations, size, strides, anchor_scale))
    found += [_rare_classes(annotations, size)]
    found += [_idle_levels(annotations, size, strides, anchor_scale)]
    return [sentence for sentence in found if sentence is not None]


def advice_on_run(
    images: int, passes: float, from_scratch: bool, validation_images: int
) -> list[str]:
    """What would help a run beside its data, the most helpful first.

    Args:
        images: to learn from.
        passes: over these, in all steps.
        from_scratch: whether the student has no weights to start from.
        validation_images: to evaluate on.
    """
    found = [_length(passes, from_scratch)]
    if from_scratch and images < FEW_IMAGES:
        found.append(
            f"{images} images are few to learn from scratch: on photographs a student from "
            f"ImageNet weights finds more (preset custom, slower on a CPU)"
        )
    if validation_images < VAL_IMAGES:
        found.append(
            f"{validation_images} images to evaluate on are few: the AP of others would differ by "
            f"several points, and small gains can't be told"
        )
    return [sentence for sentence in found if sentence is not None]


def advice_on_warm_up(steps: int, warmup_steps: int) -> str | None:
    """What would help a run that ends before its learning rate is what the recipe says."""
    if steps > warmup_steps:
        return None
    return (
        f"the run stops after {steps} steps, within its warm-up of {warmup_steps}: it never "
        f"learns at the full rate (--optimisation.warmup-steps)"
    )


def _length(passes: float, from_scratch: bool) -> str | None:
    if passes < 1:
        return (
            f"the run sees {100 * passes:.0f} % of the images, and each once: --epochs "
            f"{ENOUGH_PASSES} is a start on a small data set"
        )
    if from_scratch and passes < PASSES:
        return (
            f"{passes:.2g} passes over the images are few to learn from scratch: try --epochs "
            f"{ENOUGH_PASSES}"
        )
    if passes > MANY_PASSES:
        return (
            f"{passes:.0f} passes over the images are many, and learn them by heart: "
            f"--evaluate-epochs {ENOUGH_PASSES} --patience 3 ends where AP stops rising"
        )
    return None


def _small_objects(annotations: Annotations, size: ImageSize, strides: Sequence[int]) -> str | None:
    least = MIN_CELLS * strides[0]
    smallest = smallest_class(object_sizes(annotations, size))
    if smallest is None or smallest.median >= least:
        return None
    seen = (
        f"half of {smallest.name!r} are below {_whole(smallest.median)} pixels after resizing, and "
        f"the finest cell is {strides[0]}"
    )
    other = enlarged(annotations, size, least / smallest.median)
    if other is None:
        return f"{seen}: the files are no larger; cut them into tiles, or photograph from nearer"
    return f"{seen}: try {_size_options(other)}"


def _large_objects(
    annotations: Annotations, size: ImageSize, strides: Sequence[int], anchor_scale: float | None
) -> str | None:
    if anchor_scale is None:
        return None
    sides, _ = resized_sides(annotations, size)
    large = quantiles(np.sqrt(sides.prod(axis=1)))[2]
    other = fitting_strides(annotations, size, strides[0], anchor_scale)
    if len(other) <= len(strides) or large < 2 * anchor_scale * strides[-1]:
        return None
    return (
        f"one object in twenty is above {_whole(large)} pixels after resizing, and the coarsest "
        f"anchor is {_whole(anchor_scale * strides[-1])}: try --model.strides "
        f"{' '.join(map(str, other))}"
    )


def _anchors(
    annotations: Annotations, size: ImageSize, strides: Sequence[int], anchor_scale: float | None
) -> str | None:
    sides, _ = resized_sides(annotations, size)
    if anchor_scale is None:
        return None
    known = best_possible_recall(sides, strides, anchor_scale)
    other = fitting_scale(sides, strides)
    if known >= RECALL or best_possible_recall(sides, strides, other) <= known:
        return None
    first, last = (_whole(anchor_scale * stride) for stride in (strides[0], strides[-1]))
    return (
        f"{100 * (1 - known):.0f} % of the boxes are four times as long as any anchor "
        f"({first} to {last} pixels), or a fourth: try --model.anchor-scale {other:g}"
    )


def _idle_levels(
    annotations: Annotations, size: ImageSize, strides: Sequence[int], anchor_scale: float | None
) -> str | None:
    if anchor_scale is None:
        return None
    sides, _ = resized_sides(annotations, size)
    used = [best_possible_recall(sides, [stride], anchor_scale) > 0 for stride in strides]
    levels = max(1 + max((n for n, fits in enumerate(used) if fits), default=0), LEVELS[0])
    if levels >= len(strides):
        return None
    idle = ", ".join(map(str, strides[levels:]))
    return (
        f"no box is a fourth of the anchors of stride {idle}, which learn nothing: "
        f"--model.strides {' '.join(map(str, strides[:levels]))} does without them"
    )


def _rare_classes(annotations: Annotations, size: ImageSize) -> str | None:
    sizes = object_sizes(annotations, size)
    rare = [f"{each.name!r} {each.boxes}" for each in sizes if 0 < each.boxes < FEW]
    if not rare:
        return None
    return (
        f"classes with fewer than {FEW} boxes to learn from: {first_of(rare)}; what is learnt of "
        f"them is these objects, so more pictures of them help more than any option"
    )


def _size_options(size: ImageSize) -> str:
    return f"--data.size.short-side {size.short_side} --data.size.long-side {size.long_side}"


def _whole(pixels: float) -> str:
    return f"{pixels:.0f}" if pixels >= 10 else f"{pixels:.2g}"

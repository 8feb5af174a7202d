"""A student with one part of its output replaced by the teacher's: which part costs AP?

The class logits of a location have a level, the highest of them, and a pattern, their
differences to it. Softmax distillation sees the pattern alone. Boxes are the third part.
The AP that a student gains from the teacher's part says what mending that part alone could
give it; parts depend on each other, so gains do not add up, and one may be a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from bckd.losses.distillation import check_comparable
from bckd.models.dense import DenseDetector
from bckd.models.postprocess import PostProcess
from bckd.structures import DenseOutput

Part = Literal["level", "pattern", "boxes"]
Change = Callable[[Tensor, DenseOutput], DenseOutput]


def swapped(student: DenseOutput, teacher: DenseOutput, part: Part) -> DenseOutput:
    """The student's output with one part of the teacher's.

    Args:
        student, teacher: of the same locations and classes; `cls_logits` (N, A, K) and
            `boxes` (N, A, 4).
        part: "level", the highest logit of a location (the student names the class, the
            teacher says how sure); "pattern", the differences to it (the reverse); or "boxes".

    Raises:
        InputError: locations or classes differ.
    """
    check_comparable(student, teacher)
    if part == "boxes":
        return replace(student, boxes=teacher.boxes, box_logits=teacher.box_logits)
    ours, theirs = (x.cls_logits.amax(dim=-1, keepdim=True) for x in (student, teacher))
    if part == "level":
        return replace(student, cls_logits=student.cls_logits - ours + theirs)
    return replace(student, cls_logits=teacher.cls_logits - theirs + ours)


class AlteredDetector(DenseDetector):
    """Detects as a detector does, but for a change of its dense output.

    Args:
        detector: whose output and post-processing it uses.
        change: from images (N, 3, H, W) and the dense output to another one.
        settings: of the post-processing, where not the detector's own.
    """

    def __init__(
        self, detector: DenseDetector, change: Change, settings: PostProcess | None = None
    ) -> None:
        super().__init__()
        self.detector, self.change = detector, change
        self.class_names, self.strides = detector.class_names, detector.strides
        self.normalisation = detector.normalisation
        self.settings = settings or detector.settings

    def forward(self, images: Tensor) -> DenseOutput:
        """Changed dense output of normalised, padded images (N, 3, H, W)."""
        return self.change(images, self.detector(images))


def with_part_of(student: DenseDetector, teacher: DenseDetector, part: Part) -> AlteredDetector:
    """The student with one part of the teacher's output."""
    return AlteredDetector(student, lambda images, output: swapped(output, teacher(images), part))


def with_shift(
    student: DenseDetector, shift: float, settings: PostProcess | None = None
) -> AlteredDetector:
    """The student with a constant added to all its class logits."""
    return AlteredDetector(
        student,
        lambda _, output: replace(output, cls_logits=output.cls_logits + shift),
        settings,
    )

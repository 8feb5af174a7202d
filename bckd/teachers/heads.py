"""A student's head that goes on as its teacher's, for terms that need "head".

Both towers of the student's head are followed up to the activation before their last convolution;
from there the maps go on through the teacher's, which is frozen: its activation, its last
convolution and what predicts (i = 3 of 4 in CrossKD's official configurations of GFL, RetinaNet
and ATSS). The number of convolutions may differ; of a single one the pyramid's maps are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.models.grouped import maps_in_groups
from bckd.models.heads.towers import TowerHead
from bckd.structures import Batch, DenseOutput
from bckd.system.precision import computing_in
from bckd.teachers.matching import Matched


def head_of(detector: DenseDetector) -> TowerHead | None:
    """The head of a detector of ours, matched or not; None of one that is made elsewhere."""
    own = detector.teacher if isinstance(detector, Matched) else detector
    head = own.head if isinstance(own, Detector) else None
    return head if isinstance(head, TowerHead) else None


class CrossedHeads:
    """The start of a student's head and the rest of its teacher's, as the student takes it.

    No module: its parameters stay the detectors' own, and are in no other's state. The student's
    learn there; those of the teacher, which is frozen, don't.

    Args:
        student, teacher: both with a `head_of` them, on one device; the teacher matched and frozen.

    Attributes:
        channels: of the student's maps where they leave its head, and of the teacher's there.
    """

    def __init__(self, student: DenseDetector, teacher: DenseDetector) -> None:
        ours, theirs = head_of(student), head_of(teacher)
        assert ours is not None and theirs is not None
        self.starts, self.rest = ours.start_of_towers(), theirs.rest(student.strides)
        self.matched = teacher if isinstance(teacher, Matched) else None
        self.channels = ours.cls.in_channels, theirs.cls.in_channels

    def __call__(
        self, pyramid: Sequence[Tensor], adapters: Sequence[nn.Module], batch: Batch | None
    ) -> DenseOutput:
        """What the teacher's head predicts of the student's maps; the gradient is the student's.

        Args:
            pyramid: the student's L maps (N, C, H, W); the heads compute in their type.
            adapters: of the class tower and of the box tower, from the student's channels to the
                teacher's, between both heads.
            batch: of these images; None: they have one canvas.

        Returns:
            As the teacher's own output, after `Matched`: the student's levels and classes.
        """

        def of_maps(maps: Sequence[Tensor]) -> DenseOutput:
            for_classes, for_boxes = (
                [adapter(start(x)) for x in maps]
                for start, adapter in zip(self.starts, adapters, strict=True)
            )
            return self.rest.from_maps(for_classes, for_boxes)

        first = pyramid[0]
        computed_in = None if first.dtype == torch.float32 else first.dtype
        with computing_in(computed_in, first.device):
            if batch is None:
                output = of_maps(pyramid)
            else:
                output = maps_in_groups(of_maps, pyramid, self.rest.strides, batch.canvases)
        if self.matched is None:
            return output
        return replace(output, cls_logits=self.matched.chosen(output.cls_logits))

"""The numbers of a replay: a teacher's maps and boxes, and the students' at every frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.models.postprocess import PostProcess, postprocess
from bckd.structures import DenseOutput, Detections
from bckd.viz.picture_outputs import PictureOutputs, outputs_of_picture

OVERLAP = 0.5  # IoU from which a box is one of an object
THRESHOLD = 0.3  # a detection is shown from this score on


@dataclass(frozen=True)
class Frames:
    """What a teacher and its students say of one picture.

    Attributes:
        pictured: of all frames, by "labels, frame 3" and so on.
        scores: by detector, the teacher first, (S, A, K) sigmoid scores of the S frames; the
            teacher's are the same in each.
        detections: by detector, of each frame those of a score of .05 or more, best first.
    """

    pictured: PictureOutputs
    scores: dict[str, np.ndarray]
    detections: dict[str, list[Detections]]

    def values(
        self, name: str, frame: int, label: int | None = None, difference: bool = False
    ) -> np.ndarray:
        """(A,) score of one class, or the highest of all.

        Args:
            difference: in its place |p_t - p_s|, of that class or the largest of all.
        """
        found = self.scores[name][frame]
        if difference:
            found = np.abs(found - next(iter(self.scores.values()))[frame])
        return found.max(axis=1) if label is None else found[:, label]


def frames_of(
    picture: np.ndarray,
    teacher: DenseOutput,
    students: Mapping[str, Sequence[DenseOutput]],
    class_names: Sequence[str],
) -> Frames:
    """Check that all outputs are of the picture, and compute what is drawn of them.

    Args:
        picture: (H, W, 3) uint8, padding included.
        teacher: of this picture alone, as are the students'.
        students: by name, of each frame.

    Raises:
        InputError: as `outputs_of_picture` says.
    """
    count = max(len(outputs) for outputs in students.values())
    every = {"teacher": [teacher] * count, **students}
    named = {
        f"{name}, frame {frame}": output
        for name, outputs in every.items()
        for frame, output in enumerate(outputs)
    }
    pictured = outputs_of_picture(picture, named, class_names)
    sizes = torch.tensor([picture.shape[:2]])
    return Frames(
        pictured=pictured,
        scores={
            name: np.stack([pictured.scores(f"{name}, frame {n}") for n in range(len(outputs))])
            for name, outputs in every.items()
        },
        detections={
            name: [postprocess(output, sizes, PostProcess())[0] for output in outputs]
            for name, outputs in every.items()
        },
    )


class Found(NamedTuple):
    """Of how many objects detections have a box, and a box with the right name; stray boxes."""

    objects: int
    found: int
    named: int
    stray: int


def found_on(
    detections: Detections, boxes: Tensor, labels: Tensor, threshold: float = THRESHOLD
) -> Found:
    """Count one image's objects that have a box of this score or more, at an IoU of .5 or more.

    Args:
        boxes: (G, 4) of the objects.
        labels: (G,) of the objects.
    """
    kept = detections.scores >= threshold
    overlaps = box_similarity(detections.boxes[kept][:, None], boxes[None]) >= OVERLAP  # (D, G)
    right = overlaps & (detections.labels[kept][:, None] == labels[None])
    found, named = (int(each.any(dim=0).sum()) for each in (overlaps, right))
    return Found(len(boxes), found, named, int((~overlaps.any(dim=1)).sum()))

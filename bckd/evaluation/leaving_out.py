"""AP without each tenth of the images: how far a difference would differ on other images.

The jackknife of groups (Quenouille 1956, Tukey 1958). Ten numbers say of a run what its detections
would; two runs on the same images are compared by the differences of theirs, which are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bckd.datasets.annotations import Annotations
    from bckd.evaluation.scorers import Results

GROUPS = 10
MEASURES = ("AP", "AP50", "AP75")


def without_tenths(results: Results, annotations: Annotations) -> dict[str, list[float]]:
    """Each measure on the images but for every tenth one, from the first to the tenth on.

    Args:
        results: COCO results on the annotated images, of which there are ten or more.
    """
    import numpy as np  # late, as the next: tables of studies ask for the error alone

    from bckd.evaluation.matches import match
    from bckd.evaluation.resampling import scores_of

    images = np.arange(len(annotations.images))
    weights = np.array([images % GROUPS != group for group in range(GROUPS)], dtype=np.int32)
    found = scores_of(match(results, annotations), weights).measures
    return {name: found[name].tolist() for name in MEASURES}


def error_of_images(values: Sequence[float]) -> float:
    """The standard error, by the choice of images, of what was measured without each group.

    Args:
        values: of each group that was left out; of a measure, a difference of two, or a mean
            over runs of it.
    """
    groups = len(values)
    mean = math.fsum(values) / groups
    return math.sqrt((groups - 1) / groups * math.fsum((x - mean) ** 2 for x in values))

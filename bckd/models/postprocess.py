"""From a dense output to detections: score, top-k a level, NMS a class, cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bckd.structures import DenseOutput, Detections
from bckd.system.values import BelowOne, Count, Fraction


@dataclass(frozen=True)
class PostProcess:
    """How detections are picked; the defaults are the official COCO recipe's."""

    score_threshold: BelowOne = 0.05  # lower scores are dropped
    candidates_per_level: Count = 1000  # highest scores of a level that enter NMS
    # Of two boxes of a class that overlap more, the lower goes; None: the family's own value.
    nms_iou: Fraction | None = 0.6
    max_detections: Count = 100  # of an image
    # A centerness multiplies the scores that passed the threshold (mmdetection), or its geometric
    # mean with each class score is the score, also for the threshold (torchvision).
    quality: Literal["factor", "geometric_mean"] = "factor"


@torch.no_grad()
def postprocess(output: DenseOutput, sizes: Tensor, settings: PostProcess) -> list[Detections]:
    """Detections of every image, best first, clipped to the image.

    The host waits for the device three times, and once an image for its NMS.

    Follows mmdetection 2.28 `core/utils/misc.py: filter_scores_and_topk` and
    `models/dense_heads/base_dense_head.py`; what a centerness does, `settings.quality` says.

    Args:
        output: dense output of N images.
        sizes: (N, 2) height and width of the images without padding.
        settings: with a number for `nms_iou`, as `DenseDetector.settings` has.

    Returns:
        N detections; boxes in pixels of the padded batch. Of an image where some are no numbers,
        those alone (see `Detections.finite`).
    """
    scores = output.cls_logits.sigmoid()
    quality = None if output.quality is None else output.quality.sigmoid()
    if quality is not None and settings.quality == "geometric_mean":
        scores, quality = (scores * quality[..., None]).sqrt(), None
    places, counts = _candidates(scores, output.locations.counts, settings)
    image, row, label = places.unbind(dim=1)
    score = scores[image, row, label]
    if quality is not None:
        score = score * quality[image, row]
    limits = sizes.flip(1).repeat(1, 2).to(output.boxes)  # width, height, width, height
    boxes = output.boxes[image, row].clamp(min=0).minimum(limits[image])
    finite = Detections(boxes, score, label).finite
    parts = zip(*(x.split(counts) for x in (boxes, score, label)), strict=True)
    return [_kept(Detections(*values), finite, settings) for values in parts]


def _candidates(
    scores: Tensor, levels: list[int], settings: PostProcess
) -> tuple[Tensor, list[int]]:
    """What enters NMS: the best of those of each image and level that pass the threshold.

    Args:
        scores: (N, A, K).
        levels: number of locations of each level.

    Returns:
        (M, 3) image, location and class, image by image; and how many each image has.
    """
    # A score that is nan passes, so that whoever takes the detections sees it.
    passed = ~(scores <= settings.score_threshold)
    by_level = [level.sum(dim=(1, 2)) for level in passed.split(levels, dim=1)]
    counts = torch.stack(by_level, dim=1).tolist()  # (N, L) at once: each read is a wait
    places = passed.nonzero()
    groups = [count for image in counts for count in image]
    limit = settings.candidates_per_level
    best = [
        place[value.topk(min(limit, len(value))).indices]
        for place, value in zip(
            places.split(groups), scores[places.unbind(dim=1)].split(groups), strict=True
        )
    ]
    return torch.cat(best), [sum(min(limit, count) for count in image) for image in counts]


def _kept(found: Detections, finite: bool, settings: PostProcess) -> Detections:
    """NMS over the candidates of an image.

    Args:
        finite: whether all candidates of the batch are numbers.
    """
    from torchvision.ops import batched_nms  # late: see bckd.models.backbones.base

    boxes, scores, labels = found.boxes, found.scores, found.labels
    # NMS can make nothing of what is no number, which is then all that is returned.
    if finite or found.finite:
        keep = batched_nms(boxes, scores, labels, settings.nms_iou)
    else:
        keep = (~(scores.isfinite() & boxes.isfinite().all(dim=-1))).nonzero().flatten()
    keep = keep[: settings.max_detections]
    return Detections(boxes[keep], scores[keep], labels[keep])

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
    found = []
    for n in range(len(scores)):
        limit = sizes[n].flip(0).repeat(2).to(output.boxes)  # width, height, width, height
        boxes = output.boxes[n].clamp(min=0).minimum(limit)
        found.append(
            _one_image(scores[n], None if quality is None else quality[n], boxes, output, settings)
        )
    return found


def _one_image(
    scores: Tensor,
    quality: Tensor | None,
    boxes: Tensor,
    output: DenseOutput,
    settings: PostProcess,
) -> Detections:
    """NMS over the best (location, class) pairs of each level: scores (A, K), boxes (A, 4)."""
    from torchvision.ops import batched_nms  # late: see bckd.models.backbones.base

    rows, labels, kept_scores, start = [], [], [], 0
    for level in scores.split(output.locations.counts):
        # A score that is nan passes, so that whoever takes the detections sees it.
        row, label = (~(level <= settings.score_threshold)).nonzero(as_tuple=True)
        value = level[row, label]
        best = value.topk(min(settings.candidates_per_level, len(value))).indices
        rows.append(row[best] + start)
        labels.append(label[best])
        kept_scores.append(value[best])
        start += len(level)
    row, label, score = torch.cat(rows), torch.cat(labels), torch.cat(kept_scores)
    if quality is not None:
        score = score * quality[row]
    broken = (~(score.isfinite() & boxes[row].isfinite().all(dim=-1))).nonzero().flatten()
    # NMS can make nothing of what is no number, which is then all that is returned.
    kept = broken if len(broken) else batched_nms(boxes[row], score, label, settings.nms_iou)
    keep = kept[: settings.max_detections]
    return Detections(boxes[row[keep]], score[keep], label[keep])

"""Detection in one image as a graph of operations, for exporters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from bckd.models.dense import DenseDetector
from bckd.structures import DenseOutput

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "labels")


class OneImage(nn.Module):
    """A detector and its post-processing of one image, as a graph for any image size.

    Finds what `detect` finds; where scores are equal, the order may differ. A graph can't take
    the best 1000 of as many scores as pass a threshold, so the best come first and the
    threshold after. Above 1000 candidates `detect` on a CPU does NMS class by class; here
    classes are always moved apart instead, as torchvision does for fewer and in graphs.
    """

    def __init__(self, detector: DenseDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (D, 4), scores (D,), labels (D,) of images (1, 3, H, W) and sizes (1, 2)."""
        return self.postprocess(self.detector(images), sizes)

    def postprocess(self, output: DenseOutput, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `models.postprocess` does, for an output of one image."""
        settings, num_classes = self.detector.settings, output.cls_logits.shape[-1]
        limit = sizes[0].flip(0).repeat(2).to(output.boxes)
        boxes = output.boxes[0].clamp(min=0).minimum(limit)
        scores, factor = _scores(output, settings.quality)
        chosen = _best(scores, output.locations.counts, settings.candidates_per_level)
        passed = (~(scores.flatten()[chosen] <= settings.score_threshold)).nonzero().squeeze(1)
        chosen = chosen[passed]
        rows, labels = chosen // num_classes, chosen % num_classes
        boxes, score = boxes[rows], scores.flatten()[chosen]
        if factor is not None:
            score = score * factor[rows]
        assert settings.nms_iou is not None  # see `DenseDetector.settings`
        keep = _nms(boxes, score, labels, num_classes, settings.nms_iou)
        keep = keep[: settings.max_detections]
        return boxes[keep], score[keep], labels[keep]


def _scores(output: DenseOutput, quality: str) -> tuple[Tensor, Tensor | None]:
    """(A, K) scores to choose by, and (A,) what multiplies them after the threshold, or None."""
    scores = output.cls_logits[0].sigmoid()
    if output.quality is None:
        return scores, None
    centerness = output.quality[0].sigmoid()
    if quality == "geometric_mean":
        return (scores * centerness[:, None]).sqrt(), None
    return scores, centerness


def _best(scores: Tensor, counts: Sequence[int], limit: int) -> Tensor:
    """Positions in the flattened scores (A, K) of the `limit` highest of each level."""
    positions, start = [], 0
    for level in scores.split(list(counts)):
        values = level.flatten()
        best = values.topk(torch.sym_min(limit, values.shape[0])).indices
        positions.append(best + start)
        start = start + values.shape[0]
    return torch.cat(positions)


def _nms(boxes: Tensor, scores: Tensor, labels: Tensor, num_classes: int, iou: float) -> Tensor:
    """Positions of the boxes (M, 4) that NMS within each class keeps, highest score first.

    Two boxes of no class take part: torchvision promises the compiler of a graph that NMS
    keeps two or more, and the greatest of no coordinates would be undefined.
    """
    count = boxes.shape[0]
    boxes = torch.cat([boxes, boxes.new_tensor([[0.0, 0.0, 1.0, 1.0]] * 2)])
    scores = torch.cat([scores, scores.new_zeros(2)])
    labels = torch.cat([labels, labels.new_tensor([num_classes, num_classes + 1])])
    apart = labels.to(boxes) * (boxes.max() + 1)
    keep = nms(boxes + apart[:, None], scores, iou)
    return keep[(keep < count).nonzero().squeeze(1)]

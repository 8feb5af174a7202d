"""Detection in a batch of images as a graph of operations, for exporters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from bckd.models.dense import DenseDetector
from bckd.structures import DenseOutput

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "labels", "counts")


class DetectionGraph(nn.Module):
    """A detector and its post-processing, as a graph for any number of images of any size.

    Finds what `detect` finds; where scores are equal, the order may differ. A graph can't take
    the best 1000 of as many scores as pass a threshold, so the best come first and the
    threshold after. Above 1000 candidates `detect` on a CPU does NMS class by class; here
    classes are always moved apart instead, as torchvision does for fewer and in graphs.
    """

    def __init__(self, detector: DenseDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is found in images (N, 3, H, W) of these sizes (N, 2), image by image.

        Returns:
            Boxes (D, 4), scores (D,) and labels (D,) of all images, the first one's first and
            the best of each first; and counts (N,), how many are each image's.
        """
        return self.postprocess(self.detector(images), sizes)

    def postprocess(
        self, output: DenseOutput, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `models.postprocess` does; the result of `forward`."""
        settings, num_classes = self.detector.settings, output.cls_logits.shape[-1]
        limits = sizes.flip(1).repeat(1, 2).to(output.boxes)[:, None]
        boxes = output.boxes.clamp(min=0).minimum(limits)
        scores, factor = _scores(output, settings.quality)
        places = _best(scores, output.locations.counts, settings.candidates_per_level)
        passed = ~(scores.flatten(1).gather(1, places) <= settings.score_threshold)
        image, candidate = passed.nonzero().unbind(1)
        place = places[image, candidate]
        row, label = place // num_classes, place % num_classes
        box, score = boxes[image, row], scores.flatten(1)[image, place]
        if factor is not None:
            score = score * factor[image, row]
        assert settings.nms_iou is not None  # see `DenseDetector.settings`
        keep = _nms(box, score, label, image, num_classes, settings.nms_iou)
        order, counts = _by_image(image[keep], sizes.shape[0], settings.max_detections)
        keep = keep[order]
        return box[keep], score[keep], label[keep], counts


def _scores(output: DenseOutput, quality: str) -> tuple[Tensor, Tensor | None]:
    """(N, A, K) to choose by, and (N, A) what multiplies them after the threshold, or None."""
    scores = output.cls_logits.sigmoid()
    if output.quality is None:
        return scores, None
    centerness = output.quality.sigmoid()
    if quality == "geometric_mean":
        return (scores * centerness[..., None]).sqrt(), None
    return scores, centerness


def _best(scores: Tensor, counts: Sequence[int], limit: int) -> Tensor:
    """(N, C) positions in an image's flattened scores (N, A, K): each level's `limit` highest."""
    positions, start = [], 0
    for level in scores.split(list(counts), dim=1):
        values = level.flatten(1)
        best = values.topk(torch.sym_min(limit, values.shape[1])).indices
        positions.append(best + start)
        start = start + values.shape[1]
    return torch.cat(positions, dim=1)


def _nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, num_classes: int, iou: float
) -> Tensor:
    """Positions of the boxes (M, 4) that NMS keeps, highest score first.

    Boxes of other classes are moved apart to the right, those of other images down: along one
    axis the coordinates of a large batch would lose their last digits.

    Two boxes of no class take part: torchvision promises the compiler of a graph that NMS
    keeps two or more, and the greatest of no coordinates would be undefined.
    """
    count = boxes.shape[0]
    boxes = torch.cat([boxes, boxes.new_tensor([[0.0, 0.0, 1.0, 1.0]] * 2)])
    scores = torch.cat([scores, scores.new_zeros(2)])
    labels = torch.cat([labels, labels.new_tensor([num_classes, num_classes + 1])])
    images = torch.cat([images, images.new_zeros(2)])
    apart = torch.stack([labels, images], dim=1).to(boxes) * (boxes.max() + 1)
    keep = nms(boxes + apart.repeat(1, 2), scores, iou)
    return keep[(keep < count).nonzero().squeeze(1)]


def _by_image(images: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Positions of the first `limit` of each image, image by image; how many each image has.

    Args:
        images: (D,) which of the `count` images each detection is of, best first.
    """
    own = images[:, None] == torch.arange(count, device=images.device)
    own = own & (own.cumsum(0) <= limit)
    return own.T.nonzero()[:, 1], own.sum(0)

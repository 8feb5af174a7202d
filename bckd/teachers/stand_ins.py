"""A teacher's detections in the place of labels, on images that have none.

What is distilled goes by the student's assignment in two places: a sum over locations is divided
by the number of positives, and a level without any positive is left out (`gate_levels`). Some
terms look at the positives themselves, or at boxes. An image without labels has neither; were it
taken for one without objects, its part of the sum would be divided by the objects of others, and be
nothing in a group without labels. So the boxes that the teacher finds there with a score of
`LEAST_SCORE` or more are assigned as labels would be. No loss from labels sees them.

They are what `bckd predict` finds at its usual threshold, but for two things: a location names one
class, its best; and what is looked at are the `CANDIDATES` best locations of an image on all levels
together. The number of steps is fixed and no shape depends on what is found, so that the host never
waits for a GPU.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.structures import DenseOutput, GroundTruth

LEAST_SCORE = 0.3  # of a detection; a centerness is a factor of it
CANDIDATES = 300  # locations of an image that enter NMS
MOST = 100  # detections of an image, as COCO's evaluation takes them
NMS_IOU = 0.6  # of two boxes of a class that overlap more, the lower goes
ROUNDS = 10  # of NMS: exact unless more boxes hide one another in a row (see `_kept`)


def with_stand_ins(truth: GroundTruth, teacher: DenseOutput, sizes: Tensor) -> GroundTruth:
    """The boxes of labelled images, and on the others what the teacher finds there.

    Args:
        truth: of a batch, with `labelled`.
        teacher: what it says of the same images, by the student's classes.
        sizes: (N, 2) height and width of the images without padding.

    Returns:
        (N, G + M) rows, M at most `MOST`; all images count as labelled.
    """
    assert truth.labelled is not None
    boxes, labels = _detections(teacher, sizes)
    labels = torch.where(truth.labelled[:, None], -1, labels)
    boxes = boxes * (labels >= 0)[..., None]
    return replace(
        truth,
        boxes=torch.cat([truth.boxes, boxes], dim=1),
        labels=torch.cat([truth.labels, labels], dim=1),
        crowd=torch.cat([truth.crowd, torch.zeros_like(labels, dtype=torch.bool)], dim=1),
        labelled=None,
    )


@torch.no_grad()
def _detections(output: DenseOutput, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, M, 4) within their images and labels (N, M), -1 where there is none; best first."""
    scores, labels = output.scores.max(dim=-1)  # (N, A)
    if output.quality is not None:
        scores = scores * output.quality.sigmoid()
    scores, place = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)  # (N, C)
    labels = labels.gather(1, place)
    boxes = output.boxes.gather(1, place[..., None].expand(-1, -1, 4)).clamp(min=0)
    boxes = boxes.minimum(sizes.flip(1).repeat(1, 2)[:, None].to(boxes))
    solid = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    kept = _kept(boxes, labels, solid & (scores >= LEAST_SCORE))
    scores, best = torch.where(kept, scores, -1).topk(min(MOST, scores.shape[1]), dim=1)
    boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
    return boxes, torch.where(scores >= 0, labels.gather(1, best), -1)


def _kept(boxes: Tensor, labels: Tensor, found: Tensor) -> Tensor:
    """(N, C) bool: what NMS leaves of the boxes that are found, all images at once.

    A box goes where one of its class before it that stays overlaps it. In each round this is
    decided anew by who stayed in the one before. After n rounds it is right for every box that is
    the end of no chain of more than n boxes, each of which overlaps the next ("Cluster-NMS", Zheng
    et al., IEEE Transactions on Cybernetics 2022, arXiv 2005.03572).

    Args:
        boxes: (N, C, 4), the best first.
        labels: (N, C).
        found: (N, C) bool.
    """
    overlaps = box_similarity(boxes[:, :, None], boxes[:, None]) > NMS_IOU
    before = torch.ones_like(overlaps).triu(diagonal=1)
    same = labels[:, :, None] == labels[:, None]
    hides = overlaps & before & same & found[:, :, None]  # (N, C, C): row hides column
    kept = found
    for _ in range(ROUNDS):
        kept = found & ~(hides & kept[:, :, None]).any(dim=1)
    return kept

"""Pairs of detectors' maps, batches with boxes, and what is adapted: for tests of feature terms."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from bckd.normalisation import IMAGENET
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth

# Boxes of two images of 32 x 40 pixels; one inside the other in the first.
BOXES = [[[3.0, 2.0, 18.0, 30.0], [9.0, 9.0, 15.0, 15.0]], [[20.0, 0.0, 39.0, 12.0]]]
Pair = tuple[DenseOutput, DenseOutput]


def batch_of(boxes: list[list[list[float]]], height: int = 32, width: int = 40) -> Batch:
    """Images of one size with these boxes."""
    rows = [torch.tensor(image).reshape(-1, 4) for image in boxes]
    truth = GroundTruth.from_lists(rows, [torch.zeros(len(x), dtype=torch.long) for x in rows])
    count, sizes = len(boxes), torch.tensor([[height, width]] * len(boxes))
    return Batch(
        pixels=torch.zeros(count, 3, height, width, dtype=torch.uint8),
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=((height, width),) * count,
        original_sizes=sizes,
        frames=torch.tensor([[0, 0, width, height]] * count),
        ground_truth=truth,
        indices=tuple(range(count)),
        flipped=(False,) * count,
        image_ids=tuple(range(count)),
        file_names=("",) * count,
    )


def with_truth(batch: Batch, truth: GroundTruth) -> Batch:
    return replace(batch, ground_truth=truth)


def assigned(output: DenseOutput) -> Assignment:
    """An assignment of nothing: feature terms look at no more than what is valid."""
    return Assignment.for_distillation(torch.zeros(output.cls_logits.shape[:2], dtype=torch.bool))


def adapted(term: nn.Module, pair: Pair) -> list[tuple[Tensor, Tensor]]:
    """The maps of each level, the student's in the teacher's channels, without gradients."""
    rows = zip(term.adapters, *(output.features for output in pair), strict=True)
    return [(adapt(ours).detach(), theirs.detach()) for adapt, ours, theirs in rows]


def wave(start: int, *shape: int, step: float = 1.0) -> Tensor:
    """Numbers between -1 and 1 that are the same on every machine and in every version."""
    count = torch.Size(shape).numel()
    return torch.sin(step * torch.arange(start, start + count, dtype=torch.float32)).view(shape)

"""Grids of locations and their anchors, side distances, deltas, and the IoU family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from bckd.structures import Level, Locations

IoUKind = Literal["iou", "giou", "diou", "ciou"]
LARGEST_STRETCH = abs(math.log(16 / 1000))  # of a side in deltas, as in mmdetection
EPSILON = 1e-6  # least denominator, as in mmdetection's bbox_overlaps


def grid(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device | str = "cpu",
    offset: float = 0.0,
) -> Locations:
    """Locations at (x + offset, y + offset) * stride of every level.

    Args:
        shapes: (height, width) of each level's map.
        strides: pixels per cell of each level.
        offset: 0 for GFL, ATSS and RetinaNet (mmdetection's `center_offset`), .5 for FCOS.

    Returns:
        One location a cell, without anchors.
    """
    levels = tuple(Level(s, h, w) for s, (h, w) in zip(strides, shapes, strict=True))
    centres, per_location = [], []
    for level in levels:
        ys = (torch.arange(level.height, device=device) + offset) * level.stride
        xs = (torch.arange(level.width, device=device) + offset) * level.stride
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        centres.append(torch.stack([x, y], dim=-1).reshape(-1, 2).float())
        per_location.append(torch.full((level.count,), float(level.stride), device=device))
    return Locations(torch.cat(centres), torch.cat(per_location), levels)


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """(len(values),) of the other tensor's type and device, made there.

    For a copy of what the host has made, the host would wait.
    """
    return torch.stack([like.new_full((), value) for value in values])


def with_anchors(locations: Locations, shapes: Sequence[tuple[float, float]]) -> Locations:
    """The locations of a grid, each with one anchor a shape about its centre.

    Args:
        locations: of one location a cell.
        shapes: (width, height) of each of a cell's anchors, in strides.
    """
    per_cell = len(shapes)
    centres = locations.centres.repeat_interleave(per_cell, dim=0)
    strides = locations.strides.repeat_interleave(per_cell)
    half = 0.5 * torch.stack([constants(shape, strides) for shape in shapes])
    half = half.repeat(centres.shape[0] // per_cell, 1) * strides[:, None]
    levels = tuple(replace(level, per_cell=per_cell) for level in locations.levels)
    return Locations(centres, strides, levels, torch.cat([centres - half, centres + half], dim=1))


def deltas_to_boxes(anchors: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (..., 4) from anchors and deltas (..., 4), as in R-CNN and mmdetection.

    A delta is the shift of the centre in anchor sides (x, y), then the logarithm of the
    factor on the sides (w, h), limited to 1000 / 16 both ways.
    """
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * sides
    half = 0.5 * sides * deltas[..., 2:].clamp(-LARGEST_STRETCH, LARGEST_STRETCH).exp()
    return torch.cat([centres - half, centres + half], dim=-1)


def boxes_to_deltas(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Deltas (..., 4) that `deltas_to_boxes` makes these boxes (..., 4) from."""
    sides, box_sides = (x[..., 2:] - x[..., :2] for x in (anchors, boxes))
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    return torch.cat([shift / sides, (box_sides / sides).log()], dim=-1)


def distances_to_boxes(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) from centres (..., 2) and left, top, right, bottom distances (..., 4)."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def boxes_to_distances(centres: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom distances (..., 4) of boxes (..., 4) from centres (..., 2)."""
    return torch.cat([centres - boxes[..., :2], boxes[..., 2:] - centres], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Area (...) of boxes (..., 4), in squared units of the boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared area of boxes (..., 4); leading dimensions broadcast."""

    def side(low: int, high: int) -> Tensor:
        gap = torch.minimum(a[..., high], b[..., high]) - torch.maximum(a[..., low], b[..., low])
        return gap.clamp(min=0)

    return side(0, 2) * side(1, 3)  # not both at once: of many pairs that is much memory


def box_similarity(a: Tensor, b: Tensor, kind: IoUKind = "iou") -> Tensor:
    """IoU, or one of its relatives, of boxes pair by pair.

    Args:
        a, b: (..., 4) xyxy boxes; leading dimensions broadcast, so
            `a[:, None]` against `b[None]` gives the pairwise matrix.
        kind: "iou"; "giou" (Rezatofighi et al. 2019, minus the empty share of
            the enclosing box); "diou" (Zheng et al. 2020, minus the squared
            centre distance over the squared enclosing diagonal); "ciou" (DIoU
            minus the aspect-ratio term alpha * v).

    Returns:
        (...): 1 for equal boxes; "iou" is at least 0, the others at least -1
        ("ciou" a little below).

    Raises:
        ValueError: `kind` is none of the four.
    """
    if kind not in ("iou", "giou", "diou", "ciou"):
        raise ValueError(f"IoU kind {kind!r} is unknown; expected iou, giou, diou or ciou")
    shared = box_intersection(a, b)
    union = box_area(a) + box_area(b) - shared
    iou = shared / union.clamp(min=EPSILON)
    if kind == "iou":
        return iou
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    enclosing = (high - low).clamp(min=0)
    if kind == "giou":
        area = (enclosing[..., 0] * enclosing[..., 1]).clamp(min=EPSILON)
        return iou - (area - union) / area
    centre_gap = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diou = iou - centre_gap.square().sum(-1) / (enclosing.square().sum(-1) + EPSILON)
    if kind == "diou":
        return diou
    return diou - _aspect_penalty(a, b, iou)


def _aspect_penalty(a: Tensor, b: Tensor, iou: Tensor) -> Tensor:
    """CIoU's alpha * v; alpha is a weight and carries no gradient (Zheng et al. 2020)."""
    angle_a, angle_b = (
        torch.atan2(box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]) for box in (a, b)
    )
    v = (4 / math.pi**2) * (angle_a - angle_b).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v).clamp(min=EPSILON)
    return alpha * v

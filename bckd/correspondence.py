"""Two dense outputs, made comparable: levels by stride, locations by cell.

A cell of the grid corresponds to the cell of the same row and column, wherever in it a head puts
its point: detectors that predict at a cell's corner (GFL, ATSS, RetinaNet) and at its middle
(FCOS, NanoDet) are half a stride apart, and compare decoded boxes in pixels. Where one of a pair
has several anchors a cell and the other has not, each cell of the former speaks with its best
anchor (`compared`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bckd.structures import Assignment, DenseOutput, Locations
from bckd.system.errors import InputError


def choose_levels(output: DenseOutput, strides: tuple[int, ...]) -> DenseOutput:
    """The locations of the levels of these strides, with the features of these levels alone.

    Raises:
        InputError: the output has no level of such a stride.
    """
    have = [level.stride for level in output.locations.levels]
    absent = [stride for stride in strides if stride not in have]
    if absent:
        raise InputError(f"no level has a stride of {absent[0]}; these are {have}")
    kept = [stride in strides for stride in have]
    levels = tuple(x for x, keep in zip(output.locations.levels, kept, strict=True) if keep)
    features = output.features
    if len(features) == len(kept):
        features = tuple(x for x, keep in zip(features, kept, strict=True) if keep)

    def chosen(values: Tensor, dim: int) -> Tensor:
        parts = zip(values.split(output.locations.counts, dim=dim), kept, strict=True)
        return torch.cat([part for part, keep in parts if keep], dim=dim)

    places = output.locations
    anchors = None if places.anchors is None else chosen(places.anchors, 0)
    centres, strides_of = chosen(places.centres, 0), chosen(places.strides, 0)
    locations = Locations(centres, strides_of, levels, anchors)
    fields = _fields(output, lambda x: chosen(x, 1))
    return replace(output, locations=locations, features=features, **fields)


def compared(
    student: DenseOutput, teacher: DenseOutput, assignment: Assignment
) -> tuple[DenseOutput, DenseOutput, Assignment]:
    """The pair and the student's assignment with as many locations a cell on both sides.

    Where these differ, a cell's logit of a class is the highest of its anchors', its box that
    of the anchor with the highest logit of all, and it is positive if one of them is. The
    student's gradient goes to those anchors alone.
    """
    ours, theirs = (x.locations.levels[0].per_cell for x in (student, teacher))
    if ours == theirs:
        return student, teacher, assignment
    if ours > 1:
        student, assignment = per_cell(student), _assignment_per_cell(assignment, ours)
    return student, per_cell(teacher) if theirs > 1 else teacher, assignment


def per_cell(output: DenseOutput) -> DenseOutput:
    """One location a cell, which speaks with the best of its anchors.

    Args:
        output: B anchors a cell on every level.

    Returns:
        `cls_logits` (N, A / B, K): the highest of the cell's, class by class; `boxes` and
        `quality` of the anchor with the highest logit of all. Deltas and anchors, which
        belong to one anchor, are left out.
    """
    count = output.locations.levels[0].per_cell
    logits = output.cls_logits.unflatten(1, (-1, count))  # (N, cells, B, K)
    best = logits.amax(dim=-1).argmax(dim=-1)  # (N, cells)
    chosen = best + count * torch.arange(best.shape[1], device=best.device)
    every = torch.arange(0, logits.shape[1] * count, count, device=best.device)
    levels = tuple(replace(level, per_cell=1) for level in output.locations.levels)
    locations = replace(_rows_of(output.locations, every), levels=levels, anchors=None)
    fields = _fields(output, lambda x: _gather(x, chosen))
    fields |= {"cls_logits": logits.max(dim=2).values}
    fields.pop("deltas", None)
    return replace(output, locations=locations, features=output.features, deltas=None, **fields)


def _assignment_per_cell(assignment: Assignment, count: int) -> Assignment:
    """A cell takes the part of its first positive anchor, or of its first one."""
    positive = assignment.positive.unflatten(1, (-1, count))  # (N, cells, B)
    first = positive.int().argmax(dim=-1)
    chosen = first + count * torch.arange(first.shape[1], device=first.device)
    return replace(
        assignment,
        labels=_gather(assignment.labels, chosen),
        boxes=_gather(assignment.boxes, chosen),
        valid=assignment.valid.unflatten(1, (-1, count)).any(dim=-1),
        counted=assignment.counted.unflatten(1, (-1, count)).any(dim=-1),
        positive=positive.any(dim=-1),
        localisation_region=None,
    )


def _rows_of(locations: Locations, rows: Tensor) -> Locations:
    anchors = None if locations.anchors is None else locations.anchors[rows]
    centres, strides = locations.centres[rows], locations.strides[rows]
    return replace(locations, centres=centres, strides=strides, anchors=anchors)


def _fields(output: DenseOutput, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {name: change(x) for name, x in output.per_location().items()}


def _gather(values: Tensor, rows: Tensor) -> Tensor:
    """(N, C, ...) from (N, A, ...) and rows (N, C)."""
    index = rows.reshape(*rows.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(*rows.shape, *values.shape[2:]))

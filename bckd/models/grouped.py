"""A detector's forward pass in which no image sees the padding or the statistics of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bckd.structures import DenseOutput, Level, Locations

NO_SCORE = -50.0  # logit of every class where an image has no location

Canvas = tuple[int, int]  # height and width in pixels
Levels = tuple[Level, ...]


def forward_in_groups(
    network: Callable[[Tensor], DenseOutput],
    images: Tensor,
    canvases: Sequence[Canvas],
    images_per_group: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> DenseOutput:
    """Dense output of images, each of which is seen on its own group's canvas.

    A GroupNorm takes its statistics over the padding, and a convolution sees it from inside the
    image: what a detector says of an image depends on how far it is padded. So images of one
    canvas go through the network together, without the padding that others of the batch need.
    A BatchNorm that learns takes its statistics over the images that it sees: where there is
    one, each group goes through alone, and the running statistics take in the mean of all groups.
    (Without groups it sees the images of a canvas together.)

    Args:
        network: a detector, or one wrapped for many processes.
        images: (N, 3, H, W), zero-padded to the largest canvas.
        canvases: height and width of each image's canvas, the same within a group.
        images_per_group: see `bckd.groups`.
        share: (number, count): these images are one of so many equal parts of a step's, from 0.

    Returns:
        Output at the A locations of the largest canvas; beyond an image's own all logits of
        classes are `NO_SCORE`, everything else 0. Of a student and its teacher these are equal,
        and background: they add nothing to any loss. Where a detector's points depend on the
        size of its input (torchvision's, as teachers), `locations` are those of the first
        canvas, moved on by whole strides.
    """
    number, shares = share
    norms = _learning_norms(network) if images_per_group or shares > 1 else []
    parts = _same_canvas(canvases)
    if images_per_group and norms:
        parts = _groups(canvases, images_per_group)
    outputs = []
    for position, part in enumerate(parts):
        height, width = canvases[part[0].start]
        seen = [images[run, :, :height, :width] for run in part]
        with _one_part_of(norms, number * len(parts) + position, shares * len(parts)):
            outputs.append(network(seen[0] if len(seen) == 1 else torch.cat(seen)))
    return outputs[0] if len(parts) == 1 else _joined(outputs, parts)


def maps_in_groups(
    network: Callable[[list[Tensor]], DenseOutput],
    pyramid: Sequence[Tensor],
    strides: Sequence[int],
    canvases: Sequence[Canvas],
) -> DenseOutput:
    """As `forward_in_groups`, from maps of the images: each is seen without others' padding.

    Args:
        network: gives the dense output of such maps.
        pyramid: L maps (N, C, H, W) of the images, zero-padded to the largest canvas.
        strides: of its levels, in pixels.
        canvases: height and width of each image's canvas in pixels.
    """
    parts, outputs = _same_canvas(canvases), []
    for part in parts:
        height, width = canvases[part[0].start]
        seen = []
        for maps, stride in zip(pyramid, strides, strict=True):
            cells = slice(-(-height // stride)), slice(-(-width // stride))
            own = [maps[run][..., cells[0], cells[1]] for run in part]
            seen.append(own[0] if len(own) == 1 else torch.cat(own))
        outputs.append(network(seen))
    return outputs[0] if len(parts) == 1 else _joined(outputs, parts)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let no forward pass within the block touch the running statistics of a BatchNorm."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    tracking = [norm for norm in norms if norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


def joined(outputs: Sequence[DenseOutput]) -> DenseOutput:
    """The outputs of images in a row as one, at the locations of the largest canvas."""
    parts, start = [], 0
    for output in outputs:
        stop = start + len(output.cls_logits)
        parts.append([slice(start, stop)])
        start = stop
    found, first = _joined(outputs, parts), outputs[0].locations
    return replace(found, locations=first) if found.locations.levels == first.levels else found


def at_levels(output: DenseOutput, levels: Levels) -> DenseOutput:
    """The output at the locations of levels that are as large or larger."""
    own = output.locations.levels
    if own == levels:
        return output
    fields: dict[str, Any] = {
        name: _enlarged(x, own, levels, NO_SCORE if name == "cls_logits" else 0.0)
        for name, x in output.per_location().items()
    }
    pairs = zip(output.features, levels, strict=False)
    features = tuple(_enlarged_map(x, level) for x, level in pairs)
    return DenseOutput(**fields, locations=_extended(output.locations, levels), features=features)


Part = list[slice]  # runs of images that go through the network together


def _groups(canvases: Sequence[Canvas], images_per_group: int) -> list[Part]:
    starts = range(0, len(canvases), images_per_group)
    return [[slice(start, start + images_per_group)] for start in starts]


def _same_canvas(canvases: Sequence[Canvas]) -> list[Part]:
    parts: dict[Canvas, Part] = {}
    for canvas, run in groupby(range(len(canvases)), canvases.__getitem__):
        positions = list(run)
        parts.setdefault(canvas, []).append(slice(positions[0], positions[-1] + 1))
    return list(parts.values())


def _learning_norms(network: object) -> list[_BatchNorm]:
    if not isinstance(network, nn.Module):
        return []
    norms = (m for m in network.modules() if isinstance(m, _BatchNorm) and m.training)
    return [norm for norm in norms if norm.momentum is not None]  # without: a plain mean


@contextmanager
def _one_part_of(norms: Sequence[_BatchNorm], position: int, count: int) -> Iterator[None]:
    """Let running statistics take in part `position` of a step's `count` equal parts.

    With m / (count - m (count - 1 - position)) in place of the momentum m they end where one
    update by the mean over the parts would have brought them.
    """
    norms = [norm for norm in norms if norm.track_running_stats]
    momenta = [(norm, norm.momentum) for norm in norms if norm.momentum is not None]
    for norm, momentum in momenta:
        norm.momentum = momentum / (count - momentum * (count - 1 - position))
    try:
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked -= int(position > 0)  # it counts steps


def _joined(outputs: Sequence[DenseOutput], parts: Sequence[Part]) -> DenseOutput:
    """The outputs of parts as one, in the order of the images."""
    levels = _largest([output.locations.levels for output in outputs])
    places = sorted(
        (run.start, number, start, start + run.stop - run.start)
        for number, part in enumerate(parts)
        for run, start in zip(part, _starts(part), strict=True)
    )

    def in_order(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([values[number][start:stop] for _, number, start, stop in places])

    said = [at_levels(output, levels) for output in outputs]
    fields: dict[str, Any] = {
        name: in_order([x.per_location()[name] for x in said]) for name in said[0].per_location()
    }
    features = tuple(in_order(maps) for maps in zip(*(x.features for x in said), strict=True))
    locations = _extended(outputs[0].locations, levels)
    return DenseOutput(**fields, locations=locations, features=features)


def _starts(part: Part) -> list[int]:
    """Where each run of images begins within its part."""
    return [sum(run.stop - run.start for run in part[:n]) for n in range(len(part))]


def _largest(levels: Sequence[Levels]) -> Levels:
    """The levels of the canvas that holds all others."""
    return tuple(
        replace(same[0], height=max(x.height for x in same), width=max(x.width for x in same))
        for same in zip(*levels, strict=True)
    )


def _enlarged(values: Tensor, before: Levels, after: Levels, fill: float) -> Tensor:
    """(N, A, ...) at the locations of smaller levels, as (N, A', ...) at those of larger ones."""
    found = []
    parts = values.split([level.count for level in before], dim=1)
    for part, small, large in zip(parts, before, after, strict=True):
        rows = part.reshape(len(part), small.height, small.width * small.per_cell, -1)
        right, below = (large.width - small.width) * large.per_cell, large.height - small.height
        rows = F.pad(rows, (0, 0, 0, right, 0, below), value=fill)
        found.append(rows.reshape(len(part), large.count, *values.shape[2:]))
    return torch.cat(found, dim=1)


def _enlarged_map(x: Tensor, level: Level) -> Tensor:
    return F.pad(x, (0, level.width - x.shape[-1], 0, level.height - x.shape[-2]))


def _extended(locations: Locations, levels: Levels) -> Locations:
    """The locations of larger levels: the first cell of each, moved by whole strides."""
    centres, anchors, strides, first = [], [], [], 0
    for level, smaller in zip(levels, locations.levels, strict=True):
        cell = slice(first, first + level.per_cell)
        shifts = _shifts(level, locations.centres.device)
        centres.append((locations.centres[cell] + shifts).reshape(-1, 2))
        strides.append(locations.strides[first].expand(level.count))
        if locations.anchors is not None:
            anchors.append((locations.anchors[cell] + shifts.repeat(1, 1, 2)).reshape(-1, 4))
        first += smaller.count
    joined = torch.cat(anchors) if anchors else None
    return Locations(torch.cat(centres), torch.cat(strides), levels, joined)


def _shifts(level: Level, device: torch.device) -> Tensor:
    """(cells, 1, 2) x and y of each cell of the level from its first one, in pixels."""
    y = level.stride * torch.arange(level.height, device=device, dtype=torch.float32)
    x = level.stride * torch.arange(level.width, device=device, dtype=torch.float32)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2)

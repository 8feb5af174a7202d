"""What was found in a data set, as lines of text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from bckd.datasets.advice import advice
from bckd.datasets.annotations import Annotations
from bckd.datasets.findings import Fault, Findings, Kind
from bckd.datasets.object_sizes import object_sizes, resized_sides
from bckd.image_size import ImageSize
from bckd.inspection.mending import MENDED, mendable
from bckd.inspection.parts import Inspected, Part

_WIDTH = 79
_PLACES = 5  # of a kind that are shown
_CLASSES = 40  # that are shown
_NAME = 20  # columns


def of_part(part: Part) -> Iterator[str]:
    """Where a part lies."""
    yield from _wrapped(f"{part.name}: {part.annotations}, images in {part.images}")


def of_findings(findings: Findings, every: bool = False) -> Iterator[str]:
    """Faults, then oddities, kind by kind.

    Args:
        every: show all places of a kind, not only the first.
    """
    found: list[tuple[Kind, list[str]]] = [*findings.faults.items(), *findings.oddities.items()]
    for kind, places in found:
        yield from _of_kind(kind, places, every)
        if kind in mendable(findings):
            yield "      -> --fix mends it"


def _of_kind(kind: Kind, places: Sequence[str], every: bool) -> Iterator[str]:
    word = "FAULT" if isinstance(kind, Fault) else "odd"
    count = f" ({len(places)})" if places else ""
    yield from _wrapped(f"{word}: {kind.what}{count}", "  ")
    yield from _of_places(places, every)
    if isinstance(kind, Fault):
        yield from _wrapped(f"-> {kind.expected}", "      ")


def _of_places(places: Sequence[str], every: bool) -> Iterator[str]:
    for place in places if every else places[:_PLACES]:
        yield from _wrapped(place, "      ")
    if not every and len(places) > _PLACES:
        yield f"      and {len(places) - _PLACES} more (--all lists them)"


def of_changes(changes: dict[Kind, list[str]], every: bool = False) -> Iterator[str]:
    """What was mended, kind by kind."""
    for kind, places in changes.items():
        count = f" ({len(places)})" if places else ""
        yield from _wrapped(f"{MENDED[kind]}: {kind.what}{count}", "  ")
        yield from _of_places(places, every)


def of_classes(parts: Sequence[Inspected], every: bool = False) -> Iterator[str]:
    """A table of the boxes of each class, and of the images that have one, part by part."""
    read = [(part.part.name, part.annotations) for part in parts if part.annotations is not None]
    counts = {name: _counts(annotations) for name, annotations in read}
    names = list(dict.fromkeys(x for _, annotations in read for x in annotations.class_names))
    names.sort(key=lambda name: -sum(found.get(name, (0, 0))[0] for found in counts.values()))
    if not names:
        return
    yield f"{'class':{_NAME}}" + "".join(f"{f'{part} boxes':>12}{'images':>8}" for part in counts)
    if not every and len(names) > _CLASSES:
        shown = [name for name in names if any(x.get(name, (0, 0))[0] for x in counts.values())]
        shown = shown[:_CLASSES]
    else:
        shown = names
    for name in shown:
        cells = (found.get(name) for found in counts.values())
        yield f"{_cut(name):{_NAME}}" + "".join(
            f"{'-':>12}{'-':>8}" if cell is None else f"{cell[0]:>12}{cell[1]:>8}" for cell in cells
        )
    if len(shown) < len(names):
        yield f"and {len(names) - len(shown)} more classes (--all lists them)"
    yield f"{'together':{_NAME}}" + "".join(
        f"{sum(boxes for boxes, _ in counts[name].values()):>12}{len(annotations.images):>8}"
        for name, annotations in read
    )


def _counts(annotations: Annotations) -> dict[str, tuple[int, int]]:
    """By class how many boxes there are, crowd regions apart, and how many images have one."""
    boxes = annotations.truth.boxes.where(~annotations.truth.boxes.crowd)
    found = {}
    for label, (_, name) in enumerate(annotations.truth.categories):
        own = boxes.images[boxes.labels == label]
        found[name] = len(own), len(np.unique(own))
    return found


def of_sizes(
    annotations: Annotations, size: ImageSize, strides: Sequence[int], anchor_scale: float | None
) -> Iterator[str]:
    """What a detector will meet: how large objects are once resized, and what would help.

    Args:
        size, strides, anchor_scale: see `advice`.
    """
    sizes = [each for each in object_sizes(annotations, size) if each.boxes]
    if not sizes:
        return
    yield from _wrapped(
        f"Sizes that training will meet, sqrt(width x height) in pixels after resizing to a short "
        f"side of {size.short_side} and a long side of {size.long_side} at most:"
    )
    yield f"{'class':{_NAME}}{'boxes':>8}{'5 %':>9}{'median':>9}{'95 %':>9}"
    for each in sorted(sizes, key=lambda each: each.median)[:_CLASSES]:
        quantiles = "".join(f"{x:>9.0f}" for x in (each.small, each.median, each.large))
        yield f"{_cut(each.name):{_NAME}}{each.boxes:>8}{quantiles}"
    sides, _ = resized_sides(annotations, size)
    tiny = int((sides.min(axis=1) < strides[0]).sum())
    if tiny:
        yield from _wrapped(
            f"{tiny} of {len(sides)} boxes have a side below the finest cell, {strides[0]} pixels"
        )
    for sentence in advice(annotations, size, strides, anchor_scale):
        yield from _wrapped(f"- {sentence}", "", "  ")


def _cut(name: str) -> str:
    return name if len(name) < _NAME else f"{name[: _NAME - 4]}..."


def _wrapped(text: str, indent: str = "", more: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  " if more is None else more,
        break_long_words=False,
        break_on_hyphens=False,
    )

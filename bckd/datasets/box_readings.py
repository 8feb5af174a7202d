"""Boxes that were written in another way than x, y, width, height in pixels: which one it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

TOLERANCE = 2.0  # pixels by which a box may reach beyond its image and still fit
LEAST_SHARE = 0.1  # of the boxes that have to misfit before they count as a way of writing
LEAST_BOXES = 10  # from which on it is odd that all lie in a corner
_SAME_AREA = 0.01  # relative difference of two areas that are the same

Four = tuple[float, float, float, float]


class Written(NamedTuple):
    """A box of the file, the size of its image, and its area, None where the file says none."""

    box: Four
    width: int
    height: int
    area: float | None


def _corners(written: Written) -> Written:
    x, y, right, bottom = written.box
    return written._replace(box=(x, y, right - x, bottom - y))


def _axes_swapped(written: Written) -> Written:
    y, x, h, w = written.box
    return written._replace(box=(x, y, w, h))


def _corners_axes_swapped(written: Written) -> Written:
    return _corners(_axes_swapped(written))


def _axis_by_axis(written: Written) -> Written:
    x, right, y, bottom = written.box
    return written._replace(box=(x, y, right - x, bottom - y))


def _centres(written: Written) -> Written:
    x, y, w, h = written.box
    return written._replace(box=(x - w / 2, y - h / 2, w, h))


def _image_turned(written: Written) -> Written:
    return written._replace(width=written.height, height=written.width)


_Readings = dict[str, Callable[[Written], Written]]
_COMMON: _Readings = {
    "as x1, y1, x2, y2": _corners,
    "with width and height of the images swapped (sizes are those after the EXIF orientation)": (
        _image_turned
    ),
    "as y, x, height, width": _axes_swapped,
}


_RARE: _Readings = {"as y1, x1, y2, x2": _corners_axes_swapped, "as x1, x2, y1, y2": _axis_by_axis}


def overhang(written: Written) -> float:
    """How far a box reaches beyond its image, in pixels; 0 or less where it lies inside."""
    x, y, w, h = written.box
    return max(-x, -y, x + w - written.width, y + h - written.height)


def other_reading(boxes: Sequence[Written]) -> str | None:
    """The ways of writing under which all boxes make sense, where the usual one does not.

    A guess needs all boxes: one that does not fit disproves it.
    """
    if not boxes:
        return None
    if _are_fractions(boxes):
        return "as fractions of the image's sides"
    for readings in (_COMMON, _RARE) if _misfit(boxes) else ():
        fitting = [
            name
            for name, reading in readings.items()
            if all(_fits(other) and _has_room(other) for other in map(reading, boxes))
        ]
        if fitting:
            return " or ".join(fitting)
    return "as x1, y1, x2, y2, by their areas" if _areas_say_corners(boxes) else None


def maybe_centres(boxes: Sequence[Written]) -> bool:
    """Whether many boxes misfit, and all fit with x and y of their centre.

    No more than a guess: small boxes that are far from the left and the top fit too.
    """
    return _misfit(boxes) and all(map(_fits, map(_centres, boxes)))


def all_in_a_corner(boxes: Sequence[Written]) -> bool:
    """Whether all of many boxes lie in the upper left quarter of their images.

    So do those in per cent, or in pixels of smaller images.
    """
    return len(boxes) >= LEAST_BOXES and all(
        x + w <= width / 2 and y + h <= height / 2 for (x, y, w, h), width, height, _ in boxes
    )


def _misfit(boxes: Sequence[Written]) -> bool:
    return sum(not _fits(x) for x in boxes) >= max(1, LEAST_SHARE * len(boxes))


def _fits(written: Written) -> bool:
    return min(written.box[2:]) >= 0 and overhang(written) <= TOLERANCE


def _has_room(written: Written) -> bool:
    """Whether the area that the file says is one that the box can have."""
    _, _, w, h = written.box
    return written.area is None or possible(written.area, w, h)


def possible(area: float, width: float, height: float) -> bool:
    """Whether an object in a box can have this area; a mask may be a pixel larger all round."""
    return 0 < area <= (width + 2) * (height + 2)


def _are_fractions(boxes: Sequence[Written]) -> bool:
    values = [side for written in boxes for side in written.box]
    return 0 <= min(values) and max(values) <= 1 and any(value % 1 for value in values)


def _areas_say_corners(boxes: Sequence[Written]) -> bool:
    known = [written for written in boxes if written.area]
    corners = [_corners(written) for written in known]
    return (
        len(known) > len(boxes) / 2
        and all(_fits(written) and _same_area(written) for written in corners)
        and sum(map(_same_area, known)) < len(known) / 2
    )


def _same_area(written: Written) -> bool:
    _, _, w, h = written.box
    area = written.area
    return area is not None and abs(w * h - area) <= _SAME_AREA * area
